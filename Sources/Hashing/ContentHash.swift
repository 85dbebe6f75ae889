internal import CCrypto
public import OCI

/// A running SHA-256 or SHA-512 over content that arrives in pieces (`SHA256_Update(3)`).
public struct ContentHash: ~Copyable, Sendable {
    private enum Context {
        case sha256(SHA256_CTX)
        case sha512(SHA512_CTX)
    }

    private var context: Context

    public init(_ algorithm: DigestAlgorithm) {
        switch algorithm {
        case .sha256:
            var context = SHA256_CTX()
            precondition(SHA256_Init(&context) == 1)
            self.context = .sha256(context)
        case .sha512:
            var context = SHA512_CTX()
            precondition(SHA512_Init(&context) == 1)
            self.context = .sha512(context)
        }
    }

    private init(_ context: Context) { self.context = context }

    public mutating func update(_ bytes: Span<UInt8>) {
        bytes.withUnsafeBytes { bytes in
            switch context {
            case .sha256(var context):
                SHA256_Update(&context, bytes.baseAddress, bytes.count)
                self.context = .sha256(context)
            case .sha512(var context):
                SHA512_Update(&context, bytes.baseAddress, bytes.count)
                self.context = .sha512(context)
            }
        }
    }

    /// A second hash in the same state, to come back to when the bytes that follow turn out not to count.
    public func copy() -> ContentHash { ContentHash(context) }

    /// The digest of all bytes so far; more may follow.
    public func digest() -> Digest {
        switch context {
        case .sha256(var context):
            var result = InlineArray<32, UInt8>(repeating: 0)
            var output = result.mutableSpan
            output.withUnsafeMutableBufferPointer { _ = SHA256_Final($0.baseAddress, &context) }
            return Digest(.sha256, bytes: result.span)
        case .sha512(var context):
            var result = InlineArray<64, UInt8>(repeating: 0)
            var output = result.mutableSpan
            output.withUnsafeMutableBufferPointer { _ = SHA512_Final($0.baseAddress, &context) }
            return Digest(.sha512, bytes: result.span)
        }
    }

    /// What another process on this machine goes on from, with ``init(_:resuming:)``.
    public var state: [UInt8] {
        switch context {
        case .sha256(let context): withUnsafeBytes(of: context) { Array($0) }
        case .sha512(let context): withUnsafeBytes(of: context) { Array($0) }
        }
    }

    /// Goes on where the hash stood whose ``state`` this is; `nil` when it cannot be one.
    public init?(_ algorithm: DigestAlgorithm, resuming state: [UInt8]) {
        self.init(algorithm)
        guard state.count == self.state.count else { return nil }
        switch algorithm {
        case .sha256:
            var context = SHA256_CTX()
            withUnsafeMutableBytes(of: &context) { $0.copyBytes(from: state) }
            guard context.md_len == UInt32(SHA256_DIGEST_LENGTH), context.num < UInt32(SHA256_CBLOCK) else {
                return nil
            }
            self.context = .sha256(context)
        case .sha512:
            var context = SHA512_CTX()
            withUnsafeMutableBytes(of: &context) { $0.copyBytes(from: state) }
            guard context.md_len == UInt32(SHA512_DIGEST_LENGTH), context.num < UInt32(SHA512_CBLOCK) else {
                return nil
            }
            self.context = .sha512(context)
        }
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

/// MD5 (RFC 1321): 16 bytes. Only for what object stores demand or tell: `Content-MD5`, and ETags.
public func md5(_ content: [UInt8]) -> [UInt8] {
    var rest = [content][...]
    return md5 { rest.popFirst() ?? [] }
}

/// Of a content that comes in pieces, the last of which is empty.
public func md5<Failure: Error>(_ next: () throws(Failure) -> [UInt8]) throws(Failure) -> [UInt8] {
    let context = newContext(EVP_md5())
    defer { EVP_MD_CTX_free(context) }
    while true {
        let piece = try next()
        guard !piece.isEmpty else { return finish(context) }
        precondition(EVP_DigestUpdate(context, piece, piece.count) == 1)
    }
}

/// Lower-case hexadecimal digits.
public func hexadecimal(_ bytes: [UInt8]) -> String {
    String(unsafeUninitializedCapacity: bytes.count * 2) { text in
        for (index, byte) in bytes.enumerated() {
            text[index * 2] = digit(byte >> 4)
            text[index * 2 + 1] = digit(byte & 15)
        }
        return bytes.count * 2
    }
}

private func digit(_ value: UInt8) -> UInt8 { value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") - 10 + value }

private func newContext(_ type: OpaquePointer?) -> OpaquePointer {
    guard let context = EVP_MD_CTX_new() else { preconditionFailure("out of memory") }
    precondition(EVP_DigestInit_ex(context, type, nil) == 1, "libcrypto lacks a digest")
    return context
}

private func finish(_ context: OpaquePointer) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: 64)
    var length: UInt32 = 0
    precondition(EVP_DigestFinal_ex(context, &result, &length) == 1)
    return Array(result.prefix(Int(length)))
}
