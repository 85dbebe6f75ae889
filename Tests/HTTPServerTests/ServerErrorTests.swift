import Glibc
import Testing

@testable import HTTPServer

@Suite("Why a server does not start")
struct ServerErrorTests {
    /// Who was out of descriptors used to be told to choose another address.
    @Test(arguments: [
        (EADDRINUSE, "another address"), (EADDRNOTAVAIL, "this machine"), (EACCES, "1024"), (EMFILE, "ulimit -n"),
        (ENFILE, "fs.file-max"), (EAI_NONAME, "another address"),
    ])
    func theAdviceFits(code: Int32, words: String) {
        let error = ServerError(operation: "epoll_create", address: "", code: code)
        #expect(error.advice.hasPrefix("; ") && error.advice.contains(words), "\(error.advice)")
        #expect(error.description.hasPrefix("epoll_create: "))
    }

    @Test func whereNothingIsKnownNothingIsAdvised() {
        #expect(ServerError(operation: "listen", address: "a:1", code: EIO).advice.isEmpty)
    }
}
