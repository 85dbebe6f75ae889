internal import OCI

/// What outlives this process of an upload session: everything that was acknowledged, and what is needed to go on from there.
///
/// ```
/// forebay-upload 1
/// repository library/debian
/// algorithm sha256
/// offset 33554432
/// used 1776932130
/// hash 112
/// tail 0
///
/// <hash state><tail>
/// ```
struct UploadRecord: Sendable, Equatable {
    private static let format = "forebay-upload 1"

    var repository: RepositoryName
    var algorithm: DigestAlgorithm
    /// Bytes that were acknowledged.
    var offset: Int64
    /// Seconds since 1970.
    var lastUsed: Int64
    /// The digest that the bytes proved to have, when all that is missing is the origin.
    var verified: Digest?
    /// The running hash after `offset` bytes.
    var hashState: [UInt8]
    /// The last of the bytes, where they are in no file.
    var tail: [UInt8]

    var isInFile: Bool { offset > tail.count }
}

extension UploadRecord {
    var encoded: [UInt8] {
        var lines = [
            Self.format, "repository \(repository)", "algorithm \(algorithm.rawValue)", "offset \(offset)",
            "used \(lastUsed)",
        ]
        if let verified { lines.append("verified \(verified)") }
        lines += ["hash \(hashState.count)", "tail \(tail.count)", "", ""]
        return Array(lines.joined(separator: "\n").utf8) + hashState + tail
    }

    /// `nil` when the bytes are no record, or not all of one.
    init?(_ bytes: [UInt8]) {
        var rest = bytes[...]
        var values: [Substring: Substring] = [:]
        guard Self.line(&rest) == Self.format[...] else { return nil }
        while true {
            guard let line: Substring = Self.line(&rest) else { return nil }
            if line.isEmpty { break }
            guard let space = line.firstIndex(of: " ") else { return nil }
            values[line[..<space]] = line[line.index(after: space)...]
        }
        func number(_ name: Substring) -> Int64? { values[name].flatMap { Int64(digits: $0.utf8) } }
        guard let name = values["repository"], let repository = try? RepositoryName(name),
            let algorithm = values["algorithm"].flatMap({ DigestAlgorithm(rawValue: String($0)) }),
            let offset = number("offset"), let lastUsed = number("used"),
            let hashBytes = number("hash"), let tailBytes = number("tail"),
            tailBytes <= offset, hashBytes + tailBytes == rest.count
        else { return nil }
        self.repository = repository
        self.algorithm = algorithm
        self.offset = offset
        self.lastUsed = lastUsed
        // Without it the closing request verifies once more.
        verified = values["verified"].flatMap { try? Digest($0) }
        hashState = Array(rest.prefix(Int(hashBytes)))
        tail = Array(rest.dropFirst(Int(hashBytes)))
    }

    /// Takes the next line off, without its end; `nil` when there is none.
    private static func line(_ rest: inout ArraySlice<UInt8>) -> Substring? {
        guard let end = rest.firstIndex(of: UInt8(ascii: "\n")) else { return nil }
        let line = rest[..<end]
        rest = rest[(end + 1)...]
        return Substring(decoding: line, as: UTF8.self)
    }
}
