internal import CCrypto
public import OCI

/// A running SHA-256 or SHA-512 over content that arrives in pieces (`EVP_DigestUpdate(3)`).
///
/// Sendable because the context is owned by this value alone and reached only through `mutating` calls.
public struct ContentHash: ~Copyable, @unchecked Sendable {
    private let algorithm: DigestAlgorithm
    private let context: OpaquePointer

    public init(_ algorithm: DigestAlgorithm) {
        self.algorithm = algorithm
        context = newContext(algorithm == .sha256 ? EVP_sha256() : EVP_sha512())
    }

    private init(_ algorithm: DigestAlgorithm, context: OpaquePointer) {
        self.algorithm = algorithm
        self.context = context
    }

    deinit { EVP_MD_CTX_free(context) }

    public mutating func update(_ bytes: Span<UInt8>) {
        bytes.withUnsafeBytes { _ = EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
    }

    /// A second hash in the same state, to come back to when the bytes that follow turn out not to count.
    public func copy() -> ContentHash { ContentHash(algorithm, context: duplicate(context)) }

    /// The digest of all bytes so far; more may follow.
    public func digest() -> Digest {
        let copy = duplicate(context)
        defer { EVP_MD_CTX_free(copy) }
        return Digest(algorithm, bytes: finish(copy))
    }
}

extension Digest {
    /// The digest of `content`.
    public init(of content: Span<UInt8>, _ algorithm: DigestAlgorithm = .sha256) {
        var hash = ContentHash(algorithm)
        hash.update(content)
        self = hash.digest()
    }

    /// The digest of `content`.
    public init(of content: [UInt8], _ algorithm: DigestAlgorithm = .sha256) {
        self.init(of: content.span, algorithm)
    }
}

/// HMAC with SHA-256 (RFC 2104, `HMAC(3)`): 32 bytes.
public func hmacSHA256(key: [UInt8], _ message: [UInt8]) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: 32)
    var length: UInt32 = 32
    let done = HMAC(EVP_sha256(), key, Int32(key.count), message, message.count, &result, &length)
    precondition(done != nil && length == 32)
    return result
}

/// MD5 (RFC 1321): 16 bytes. Only for `Content-MD5`, which some object stores demand.
public func md5(_ content: [UInt8]) -> [UInt8] {
    let context = newContext(EVP_md5())
    defer { EVP_MD_CTX_free(context) }
    precondition(EVP_DigestUpdate(context, content, content.count) == 1)
    return finish(context)
}

/// Lower-case hexadecimal digits.
public func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}

private func newContext(_ type: OpaquePointer?) -> OpaquePointer {
    guard let context = EVP_MD_CTX_new() else { preconditionFailure("out of memory") }
    precondition(EVP_DigestInit_ex(context, type, nil) == 1, "libcrypto lacks a digest")
    return context
}

private func duplicate(_ context: OpaquePointer) -> OpaquePointer {
    guard let copy = EVP_MD_CTX_new() else { preconditionFailure("out of memory") }
    precondition(EVP_MD_CTX_copy_ex(copy, context) == 1)
    return copy
}

private func finish(_ context: OpaquePointer) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: 64)
    var length: UInt32 = 0
    precondition(EVP_DigestFinal_ex(context, &result, &length) == 1)
    return Array(result.prefix(Int(length)))
}
