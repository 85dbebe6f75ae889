internal import DiskTier
internal import Logging
public import OCI
internal import Registry
internal import Synchronization
internal import System

/// Where an upload stands.
public struct UploadStatus: Sendable, Equatable {
    public let id: String
    /// Bytes received so far.
    public let offset: Int64
}

extension EdgeCache {
    /// Opens an upload session.
    ///
    /// - Parameter algorithm: the one that the closing digest will probably use; another costs a second hash in the end.
    public func beginUpload(
        _ name: RepositoryName,
        algorithm: DigestAlgorithm = .sha256
    ) throws(EdgeError) -> UploadStatus {
        UploadStatus(id: try uploads.open(name, algorithm).id, offset: 0)
    }

    public func uploadStatus(_ name: RepositoryName, _ id: String) throws(EdgeError) -> UploadStatus {
        let session = try uploads.find(name, id)
        return UploadStatus(id: id, offset: session.state.withLock { $0.offset })
    }

    public func cancelUpload(_ name: RepositoryName, _ id: String) throws(EdgeError) {
        let session = try uploads.find(name, id)
        guard session.close() else { throw .uploadBusy(id) }
        uploads.remove(session)
    }

    /// Opens a session for the next bytes, which come from one request.
    ///
    /// - Parameters:
    ///   - range: where the client says that the bytes belong; `nil` when it just appends.
    ///   - length: how many it says that it sends; `nil` when it does not know.
    ///   - digest: of the whole, when these are the last bytes.
    public func openChunk(
        _ name: RepositoryName,
        _ id: String,
        range: ContentRange? = nil,
        length: Int64? = nil,
        closing digest: Digest? = nil
    ) throws(EdgeError) -> UploadChunk {
        let session = try uploads.find(name, id)
        guard let state = session.acquire() else { throw .uploadBusy(id) }
        do throws(EdgeError) {
            try wake(session)
            // All that failed last time was the origin: a client that repeats the closing request may send its bytes again.
            let isRepeated =
                digest != nil && state.verified == digest
                && (range.map { $0.last + 1 == state.offset } ?? (length != 0))
            if let range, !isRepeated {
                guard range.first == state.offset else { throw .chunkOutOfOrder(offset: state.offset) }
            }
            if let range, let length, length != range.count {
                throw .chunkLength(expected: range.count, actual: length)
            }
            return try open(session, length: range?.count ?? length, closing: digest, isRepeated: isRepeated)
        } catch {
            session.release(hasDropped: error.isOurs && length != 0)
            throw error
        }
    }

    /// Makes sure of what earlier requests have left. Without it the session ends; this request hears why.
    private func wake(_ session: UploadSession) throws(EdgeError) {
        do throws(EdgeError) {
            guard try !session.spool.spool.wake() else { return }
        } catch {
            guard case .uploadDamaged = error else { throw error }
            log.warning("upload dropped", metadata: ["upload": "\(session.id)", "error": "\(error)"])
            uploads.remove(session)
            throw error
        }
        log.warning("upload dropped: its bytes are gone", metadata: ["upload": "\(session.id)"])
        uploads.remove(session)
        throw .uploadUnknown(session.id)
    }

    /// A whole upload in one request, without a session that anybody else could see.
    public func openBlob(_ name: RepositoryName, as digest: Digest, length: Int64?) throws(EdgeError) -> UploadChunk {
        let session = UploadSession(id: "", repository: name, spool: Spool(digest.algorithm, uploadTools), now: 0)
        _ = session.acquire()
        return try open(session, length: length, closing: digest)
    }

    private func open(
        _ session: UploadSession,
        length: Int64?,
        closing digest: Digest?,
        isRepeated: Bool = false
    ) throws(EdgeError) -> UploadChunk {
        let spool = session.spool.spool
        if !spool.isPassing, length ?? .max > tier.inlineLimitBytes { uploads.makeWay() }
        try spool.settle()
        // Then its parts can go where they belong at once.
        if let digest { spool.remote.name(digest) }
        if let length, !isRepeated { try spool.expect(length) }
        return UploadChunk(session, of: self, expected: length, isRepeated: isRepeated)
    }

    /// Ends the sessions that were not used for too long; a thread does so now and then by itself.
    public func expireUploads() { uploads.sweep() }

    /// Removes at the origin what was begun there and never ended; a thread does so now and then by itself.
    public func removeAbandonedUploads() { uploads.removeAbandoned() }
}

/// The bytes of one request into one upload. Exactly one of ``keep()``, ``finish(as:)`` and ``abandon()`` ends it.
///
/// A chunk that fails leaves the session as it was before: the same request can be sent again.
public final class UploadChunk {
    private let edge: EdgeCache
    private let session: UploadSession
    private let spool: Spool
    private let expected: Int64?
    private let start: Int64
    /// The bytes are here already.
    private let isRepeated: Bool
    private var isOpen = true
    private var failure: EdgeError?

    fileprivate init(_ session: UploadSession, of edge: EdgeCache, expected: Int64?, isRepeated: Bool) {
        self.edge = edge
        self.session = session
        self.expected = expected
        self.isRepeated = isRepeated
        spool = session.spool.spool
        start = spool.size
    }

    deinit { abandon() }

    public var id: String { session.id }

    /// A failure is kept until the end of the request; bytes after it are dropped.
    public func append(_ bytes: Span<UInt8>) {
        guard failure == nil, !isRepeated else { return }
        do throws(EdgeError) {
            try spool.append(bytes)
        } catch {
            failure = error
        }
    }

    /// Makes the bytes part of the upload; returns where it stands now.
    public func keep() throws(EdgeError) -> UploadStatus {
        do throws(EdgeError) {
            try check()
            try spool.settle()
        } catch {
            abandon(by: error)
            throw error
        }
        isOpen = false
        edge.uploads.release(session, hasDropped: hasDropped && spool.size == start)
        return UploadStatus(id: session.id, offset: spool.size)
    }

    /// Ends the upload: verifies the digest, and returns once the origin has the blob. It is warm on disk then.
    ///
    /// When only the origin fails, or the disk cannot give the bytes now, they stay: the same request finishes it later, with or without its body.
    public func finish(as digest: Digest) throws(EdgeError) {
        do throws(EdgeError) {
            try check()
            let actual = try spool.digest(digest.algorithm)
            guard actual == digest else {
                // Whoever sends none now believes that they are here.
                if hasDropped, spool.size == start { throw .bytesDropped(offset: start) }
                throw .digestMismatch(expected: digest, actual: actual)
            }
            try spool.settle()
        } catch {
            abandon(by: error)
            throw error
        }
        let stamp = edge.tier.stamp()
        do throws(EdgeError) {
            // Most clients have asked for it just before.
            try spool.push(as: digest, isMissing: edge.fills.isAbsent(digest))
        } catch {
            if error.isOurs, !session.id.isEmpty {
                isOpen = false
                edge.uploads.release(session, verified: digest)
            } else {
                abandon(by: error)
            }
            throw error
        }
        isOpen = false
        keepOnDisk(digest, since: stamp)
        edge.hasPushed(digest)
        edge.uploads.remove(session)
    }

    /// The client went away: the session stands where it stood before.
    public func abandon() { abandon(by: nil) }

    private func abandon(by error: EdgeError?) {
        guard isOpen else { return }
        isOpen = false
        let isDamaged = if case .uploadDamaged? = error { true } else { false }
        guard !session.id.isEmpty, !isDamaged else { return edge.uploads.remove(session) }
        do throws(EdgeError) {
            let hasDropped = hasDropped || error?.isOurs ?? false && spool.size > start
            try spool.rewind()
            let verified = session.state.withLock { $0.verified }
            edge.uploads.release(session, verified: verified, hasDropped: hasDropped)
        } catch {
            edge.log.warning("upload dropped", metadata: ["upload": "\(session.id)", "error": "\(error)"])
            edge.uploads.remove(session)
        }
    }

    private var hasDropped: Bool { session.state.withLock { $0.hasDropped } }

    private func check() throws(EdgeError) {
        if let failure { throw failure }
        let actual = spool.size - start
        if let expected, actual != expected, !isRepeated { throw .chunkLength(expected: expected, actual: actual) }
    }

    /// The origin has the blob, so a tier that cannot keep it costs the next reader a fill, not the pusher an error.
    private func keepOnDisk(_ digest: Digest, since stamp: DiskTier.Stamp) {
        do throws(DiskTierError) {
            _ = try spool.commit(as: digest, since: stamp)
        } catch {
            edge.tier.tellNotKept("\(digest)", error, edge.log)
        }
    }
}
