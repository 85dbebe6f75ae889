import Foundation
import HTTPClient
import Testing
import Threading

/// An authority of its own, and `openssl s_server` with a certificate from it for one name.
private final class TLSServer {
    let port: Int
    var authorityFile: String { directory + "/authority.pem" }
    private let directory: String
    private let process = Process()

    init(subjectAlternativeName: String) throws {
        directory = try FileManager.default.url(
            for: .itemReplacementDirectory,
            in: .userDomainMask,
            appropriateFor: FileManager.default.temporaryDirectory,
            create: true
        ).path
        let newKey = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        try TLSServer.openssl(
            "req -x509 \(newKey) -subj /CN=authority -keyout authority.key -out authority.pem",
            directory
        )
        try TLSServer.openssl("req \(newKey) -subj /CN=server -keyout server.key -out server.csr", directory)
        try "subjectAltName=\(subjectAlternativeName)".write(
            toFile: directory + "/names",
            atomically: false,
            encoding: .utf8
        )
        try TLSServer.openssl(
            "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -extfile names -out server.pem",
            directory
        )
        let output = Pipe()
        TLSServer.prepare(process, "s_server -accept 127.0.0.1:0 -cert server.pem -key server.key -www", directory)
        process.standardOutput = output
        try process.run()
        port = try TLSServer.announcedPort(output)
    }

    deinit {
        // It inherits the blocked signals of this thread, SIGTERM among them.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        // A leftover in the temporary folder harms nobody.
        try? FileManager.default.removeItem(atPath: directory)
    }

    private static func prepare(_ process: Process, _ arguments: String, _ directory: String) {
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["openssl"] + arguments.split(separator: " ").map(String.init)
        process.currentDirectoryURL = URL(fileURLWithPath: directory)
        process.standardInput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
    }

    private static func openssl(_ arguments: String, _ directory: String) throws {
        let process = Process()
        prepare(process, arguments, directory)
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "openssl \(arguments)")
    }

    /// Waits for the line `ACCEPT 127.0.0.1:12345`.
    private static func announcedPort(_ output: Pipe) throws -> Int {
        var text = ""
        while true {
            for line in text.split(separator: "\n").dropLast(text.hasSuffix("\n") ? 0 : 1)
            where line.hasPrefix("ACCEPT ") {
                return try #require(line.split(separator: ":").last.flatMap { Int($0) })
            }
            let data = output.fileHandleForReading.availableData
            try #require(!data.isEmpty, "openssl s_server ended: \(text)")
            text += String(decoding: data, as: UTF8.self)
        }
    }
}

@Suite struct TLSTests {
    private func get(_ server: TLSServer, authorityFile: String?, proxy: HTTPClient.Proxy = .none) throws(TransferError)
        -> Response
    {
        var configuration = ClientConfiguration.test()
        configuration.certificateAuthorityFile = authorityFile
        configuration.proxy = proxy
        return try Client(configuration).perform(Request("GET", "https://127.0.0.1:\(server.port)/")).0
    }

    @Test func aCertificateFromTheGivenAuthorityIsTrusted() throws {
        let server = try TLSServer(subjectAlternativeName: "IP:127.0.0.1")
        #expect(try get(server, authorityFile: server.authorityFile).status == 200)
    }

    @Test func anUnknownAuthorityIsNotTrusted() throws {
        let server = try TLSServer(subjectAlternativeName: "IP:127.0.0.1")
        let other = try TLSServer(subjectAlternativeName: "IP:127.0.0.1")
        for file in [nil, other.authorityFile] {
            let error = failure { () throws(TransferError) in try get(server, authorityFile: file) }
            #expect(error?.kindName == "tls", "\(String(describing: error))")
            #expect(error?.code == 60)
            #expect(error?.reachedServer == false)
            #expect(error?.isConnectionLevel == false)
        }
    }

    @Test func aCertificateForAnotherNameIsNotTrusted() throws {
        let server = try TLSServer(subjectAlternativeName: "DNS:elsewhere.test,IP:127.0.0.2")
        let error = failure { () throws(TransferError) in try get(server, authorityFile: server.authorityFile) }
        #expect(error?.kindName == "tls")
        #expect(error?.code == 60)
    }

    @Test func aServerWithoutTLSIsAnError() throws {
        let server = LoopbackServer { connection in connection.send("HTTP/1.1 400 Bad Request\r\n\r\n") }
        let error = failure { () throws(TransferError) in
            try Client(.test()).perform(Request("GET", "https://127.0.0.1:\(server.port)/"))
        }
        #expect(error?.kindName == "tls")
    }

    @Test func aMissingAuthorityFileIsFoundAtTheStart() {
        var configuration = ClientConfiguration.test()
        configuration.certificateAuthorityFile = "/nonexistent/authority.pem"
        let error = failure { () throws(TransferError) in try Client(configuration) }
        #expect(error?.kindName == "invalid")
        #expect(error?.detail.contains("/nonexistent/authority.pem") == true)
    }

    /// The proxy's answer to CONNECT has a head too.
    @Test func aTunnelIsNotTheResponse() throws {
        let server = try TLSServer(subjectAlternativeName: "IP:127.0.0.1")
        let proxy = LoopbackServer { [port = server.port] connection in
            guard connection.readHead()?.hasPrefix("CONNECT 127.0.0.1:\(port) ") == true else { return }
            connection.send("HTTP/1.1 299 Tunnel\r\nX-Proxy: 1\r\n\r\n")
            connection.tunnel(toPort: port)
        }
        let response = try get(server, authorityFile: server.authorityFile, proxy: .url(proxy.url))
        #expect(response.status == 200)
        #expect(response.header("X-Proxy") == nil)
    }

    @Test(arguments: [(407, "name and password"), (403, "let it pass"), (503, "let it pass")])
    func aProxyThatRefusesIsNamed(_ status: Int, _ remedy: String) {
        let (proxy, requests) = LoopbackServer.answering("HTTP/1.1 \(status) No\r\nContent-Length: 0\r\n\r\n")
        let url = "http://user:hunter2@127.0.0.1:\(proxy.port)"
        let error = failure { () throws(TransferError) in
            try Client(.test { $0.proxy = .url(url) }).perform(Request("GET", "https://127.0.0.1:1/"))
        }
        #expect(error?.kindName == "tunnel" && error?.reachedServer == false, "\(String(describing: error))")
        #expect(error?.isConnectionLevel == (status != 407))
        let text = error?.description ?? ""
        #expect(text.contains("proxy 127.0.0.1:\(proxy.port) refused the connection with status \(status)"), "\(text)")
        #expect(text.contains(remedy) && text.contains("no_proxy") && !text.contains("hunter2"), "\(text)")
        #expect(requests.withLock { $0.count } == 1)
    }
}
