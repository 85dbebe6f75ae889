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
    public func openChunk(
        _ name: RepositoryName,
        _ id: String,
        range: ContentRange? = nil,
        length: Int64? = nil
    ) throws(EdgeError) -> UploadChunk {
        let session = try uploads.find(name, id)
        guard let state = session.acquire() else { throw .uploadBusy(id) }
        do throws(EdgeError) {
            guard try onDisk({ () throws(DiskTierError) in try session.spool.spool.wake() }) else {
                log.warning("upload dropped: its bytes are gone", metadata: ["upload": "\(id)"])
                uploads.remove(session)
                throw .uploadUnknown(id)
            }
            if let range {
                guard range.first == state.offset else { throw .chunkOutOfOrder(offset: state.offset) }
                if let length, length != range.count {
                    throw .chunkLength(expected: range.count, actual: length)
                }
            }
            let expected = range?.count ?? length
            if let expected {
                try onDisk { () throws(DiskTierError) in try session.spool.spool.expect(expected) }
            }
            let mark = try onDisk { () throws(DiskTierError) in try session.spool.spool.mark() }
            return UploadChunk(session, of: self, expected: expected, mark: mark)
        } catch {
            session.release()
            throw error
        }
    }

    /// Ends the sessions that were not used for too long; a thread does so now and then by itself.
    public func expireUploads() { uploads.sweep() }

    /// A whole upload in one request, without a session that anybody else could see.
    public func openBlob(
        _ name: RepositoryName,
        algorithm: DigestAlgorithm,
        length: Int64?
    ) throws(EdgeError) -> UploadChunk {
        let spool = try onDisk { () throws(DiskTierError) in try Spool(algorithm, tier: tier, fileSystem: fileSystem) }
        if let length { try onDisk { () throws(DiskTierError) in try spool.expect(length) } }
        let session = UploadSession(id: "", repository: name, spool: spool, now: 0)
        _ = session.acquire()
        let mark = try onDisk { () throws(DiskTierError) in try spool.mark() }
        return UploadChunk(session, of: self, expected: length, mark: mark)
    }
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
    private var mark: Spool.Mark?
    private var failure: EdgeError?

    fileprivate init(_ session: UploadSession, of edge: EdgeCache, expected: Int64?, mark: consuming Spool.Mark) {
        self.edge = edge
        self.session = session
        self.expected = expected
        spool = session.spool.spool
        start = spool.size
        self.mark = consume mark
    }

    deinit { if mark != nil { abandon() } }

    public var id: String { session.id }

    /// A failure is kept until the end of the request; bytes after it are dropped.
    public func append(_ bytes: Span<UInt8>) {
        guard failure == nil else { return }
        do throws(DiskTierError) {
            try spool.append(bytes)
        } catch {
            failure = .tier(error)
        }
    }

    /// Makes the bytes part of the upload; returns where it stands now.
    public func keep() throws(EdgeError) -> UploadStatus {
        do throws(EdgeError) {
            try check()
            try edge.onDisk { () throws(DiskTierError) in try spool.flush() }
        } catch {
            abandon()
            throw error
        }
        mark = nil
        edge.uploads.release(session)
        return UploadStatus(id: session.id, offset: spool.size)
    }

    /// Ends the upload: verifies the digest, and returns once the origin has the blob. It is warm on disk then.
    public func finish(as digest: Digest) throws(EdgeError) {
        do throws(EdgeError) {
            try check()
            let actual = try edge.onDisk { () throws(DiskTierError) in try spool.digest(digest.algorithm) }
            guard actual == digest else { throw .digestMismatch(expected: digest, actual: actual) }
            let stamp = edge.tier.stamp()
            let body = try edge.onDisk { () throws(DiskTierError) in try spool.body() }
            _ = try edge.atOrigin { () throws(RegistryError) in try edge.registry.pushBlob(digest, from: body) }
            keepOnDisk(digest, since: stamp)
            edge.hasPushed(digest)
        } catch {
            abandon()
            throw error
        }
        mark = nil
        edge.uploads.remove(session)
    }

    /// The client went away, or the bytes are no good: the session stands where it stood before.
    public func abandon() {
        guard let mark = mark.take() else { return }
        do throws(DiskTierError) {
            try spool.rewind(to: mark)
            edge.uploads.release(session)
        } catch {
            edge.log.warning("upload dropped", metadata: ["upload": "\(session.id)", "error": "\(error)"])
            edge.uploads.remove(session)
        }
    }

    private func check() throws(EdgeError) {
        if let failure { throw failure }
        let actual = spool.size - start
        if let expected, actual != expected { throw .chunkLength(expected: expected, actual: actual) }
    }

    /// The origin has the blob, so a tier that cannot keep it costs the next reader a fill, not the pusher an error.
    private func keepOnDisk(_ digest: Digest, since stamp: DiskTier.Stamp) {
        do throws(DiskTierError) {
            _ = try spool.commit(as: digest, since: stamp)
        } catch {
            edge.log.warning("not kept on disk", metadata: ["digest": "\(digest)", "error": "\(error)"])
        }
    }
}
