internal import HTTPClient
internal import Hashing
internal import Synchronization

/// How an entity tag is written in `If-Match`.
enum ETagForm: Sendable {
    /// As RFC 9110 has it.
    case quoted
    /// As Ceph before version 20 wants it on PUT.
    case unquoted

    func text(_ etag: String) -> String { self == .quoted ? "\"\(etag)\"" : etag }
}

/// What a probe found out.
struct S3Findings: Sendable, Equatable {
    var ifAbsent = false
    /// `nil`: not honoured.
    var ifMatch: ETagForm?
    var etagIsContentHash = false

    var isAll: Bool { ifAbsent && ifMatch != nil && etagIsContentHash }
}

extension S3Store {
    /// Until the first probe, conditions count as not honoured. They are sent all the same.
    public var capabilities: StoreCapabilities {
        let findings = findings.withLock { $0 }
        return StoreCapabilities(
            ifAbsent: findings?.ifAbsent ?? false,
            ifMatch: findings?.ifMatch != nil,
            etagIsContentHash: findings?.etagIsContentHash ?? false,
            keepsContentType: true,
            listLimit: S3Limits.keysPerPage,
            sizeOfALookBytes: S3Limits.sizeOfALookBytes,
            isFaithful: false,
            areKnown: findings != nil
        )
    }

    /// Writes under conditions that hold and that do not, and looks what became of it: some stores ignore conditions without a word.
    @discardableResult
    public func probe(at key: ObjectKey) throws(StoreError) -> StoreCapabilities {
        var found = S3Findings()
        do throws(StoreError) {
            // What is not honoured may have looked so for a byte that changed on the way; the contrary does not happen.
            for _ in 0..<2 where !found.isAll { try look(at: key, &found) }
        } catch {
            // What is left is one small object; the error says why.
            try? delete(key)
            learnAbsence(of: key)
            throw error
        }
        try delete(key)
        learnAbsence(of: key)
        findings.withLock { $0 = found }
        return capabilities
    }

    /// Shows how this store says that nothing is there, also to who may not write; whatever comes of it is no finding.
    private func learnAbsence(of key: ObjectKey) { _ = try? head(key) }

    private func look(at key: ObjectKey, _ found: inout S3Findings) throws(StoreError) {
        if !found.ifAbsent {
            try delete(key)
            found.ifAbsent = try isHonoured(at: key, "If-None-Match", "*")
        }
        for form in [ETagForm.quoted, .unquoted] where found.ifMatch == nil || !found.etagIsContentHash {
            let content = Array("probe".utf8)
            _ = try store(request(key, content), .none)
            guard let etag = try head(key)?.etag else { break }
            found.etagIsContentHash = found.etagIsContentHash || etag == hexadecimal(md5(content))
            if found.ifMatch == nil, try isHonoured(at: key, "If-Match", form.text(etag)) { found.ifMatch = form }
        }
    }

    /// Whether a write under a condition that holds changes the object, and one under the same condition, which thereby fails, does not.
    private func isHonoured(at key: ObjectKey, _ header: String, _ value: String) throws(StoreError) -> Bool {
        for (content, isDue) in [("first", true), ("second", false)] {
            var request = request(key, Array(content.utf8))
            request.headers.append((header, value))
            do throws(StoreError) {
                let isStored = try store(request, .ifMatch("")) != .conditionFailed
                guard isStored == isDue else { return false }
            } catch {
                guard case .unsupported = error.kind else { throw error }
                return false
            }
            guard try contents(of: key, limitBytes: 16)?.bytes == Array("first".utf8) else { return false }
        }
        return true
    }

    private func request(_ key: ObjectKey, _ content: [UInt8]) -> S3Request {
        S3Request(.probe, "PUT", key, headers: configuration.objectOptions.headers, body: .bytes(content))
    }
}
