internal import Logging
internal import OCI
internal import ObjectStorage
internal import Registry
internal import System
internal import Threading

/// What of an upload is at the origin before it ends: parts, sent while the client still sends, and kept for when it comes back.
///
/// Whoever has the upload's spool calls; the parts are sent by the threads of a pool.
final class RemoteUpload: Sendable {
    struct State {
        var upload: MultipartUpload?
        /// By their index, from 0 on.
        var parts: [Int: UploadedPart] = [:]
        /// What the blob is to be; known early when the client says so in its first request.
        var digest: Digest?
        /// The length of what the origin has under the digest, when it was asked.
        var found: Int64?
        /// The bytes are nowhere else: they are sent, whatever the origin has.
        var isAlone = false
        /// Where bytes are sent from, and how many there are.
        var file: File?
        var available: Int64 = 0
        /// The last part may be sent.
        var isWhole = false
        var inFlight: Set<Int> = []
        /// All parts before it are there or on their way.
        var next = 0
        var isPaused = false
        /// What moving parts costs was tried out.
        var hasTriedMoving = false
        /// Why nothing more is sent for now.
        var failure: RegistryError?
    }

    /// How many parts a client may be ahead of those that are on their way: what it sends faster would only cost memory.
    private static let partsAhead = 2
    /// So much of a push stays in memory. More gets the memory of what came before: it neither waits for new memory nor drives out what is
    /// read often.
    private static let memoryBytes: Int64 = 64 << 20
    /// So much is moved to try it out.
    private static let trialBytes: Int64 = 4 << 20
    /// For what was written at once: a store that stalls does not stop a client.
    private static let holdLimit: Duration = .seconds(1)

    let grid: PartGrid
    private let id: String?
    private let tools: UploadTools
    private let state: Monitor<State>
    private let traits: MultipartTraits

    init(_ tools: UploadTools, id: String?, resuming record: RemoteRecord? = nil) {
        self.tools = tools
        self.id = id
        traits = tools.registry.store.multipart
        grid = PartGrid(partBytes: record?.partBytes ?? traits.partBytes)
        var state = State()
        state.upload = record?.upload
        for part in record?.parts ?? [] { state.parts[part.number - 1] = part }
        self.state = Monitor(state)
    }

    /// What a later run can go on from; parts past `offset` are not in it.
    func record(upTo offset: Int64) -> RemoteRecord? {
        state.withLock { state in
            guard let upload = state.upload else { return nil }
            let parts = state.parts.filter { grid.range($0.key).lowerBound + $0.value.length <= offset }.map(\.value)
            return RemoteRecord(
                upload: upload,
                partBytes: grid.partBytes,
                parts: parts.sorted { $0.number < $1.number }
            )
        }
    }

    var upload: MultipartUpload? { state.withLock { $0.upload } }

    /// Says what the blob is to be. An upload that was begun for another one is of no use then.
    func name(_ digest: Digest) {
        let isRenamed = state.withLock { $0.digest.map { $0 != digest } ?? false }
        // A part on its way may be about to begin the upload for the other one.
        if isRenamed { pause() }
        let isUseless = state.withLock { state in
            if isRenamed { state.found = nil }
            state.digest = digest
            state.isPaused = false
            return state.upload.map { !tools.registry.mayComplete($0, as: digest) } ?? false
        }
        if isUseless { abort() }
    }
}

// MARK: - Ahead

extension RemoteUpload {
    /// Sends the whole parts of the first `available` bytes of a file, in the background. Trouble is met again at the end.
    func advance(_ file: File, _ available: Int64) {
        let sendsUnnamed = tools.sendsUnnamed ?? tools.registry.store.multipart.movesCheaply
        guard state.withLock({ $0.digest != nil || $0.upload != nil }) || sendsUnnamed == true else {
            if sendsUnnamed == nil { tryMoving(file, available) }
            return trail(file, available)
        }
        guard available >= traits.thresholdBytes else { return }
        let isNews = state.withLock { state in
            state.file = file
            defer { state.available = available }
            return state.available != available
        }
        guard isNews else { return }
        pump()
        _ = state.wait(until: .after(Self.holdLimit)) { $0.isBehind(grid, by: Self.partsAhead) ? nil : true }
    }

    /// Finds out, in the background and once an upload, what it costs to move parts that were sent before the digest was known.
    private func tryMoving(_ file: File, _ available: Int64) {
        guard available >= traits.thresholdBytes, !state.withLock({ $0.hasTriedMoving }), tools.beginTrial() else {
            return
        }
        state.update { $0.hasTriedMoving = true }
        let body = ObjectBody.file(file, offset: 0, length: min(available, Self.trialBytes))
        let isTaken = tools.pool.submit { [tools] in
            defer { tools.endTrial() }
            do throws(RegistryError) {
                try tools.registry.tryMoving(body)
            } catch {
                tools.log.notice(
                    "cannot tell whether the origin copies quickly; large pushes go there once their digest is known",
                    metadata: ["error": "\(error)"]
                )
            }
        }
        if !isTaken { tools.endTrial() }
    }

    /// Gives the parts to the pool that may be sent now.
    private func pump() {
        while let (index, upload) = next() {
            guard
                !tools.pool.submit({ [self] in
                    send(index, of: upload)
                    pump()
                })
            else { continue }
            // The pool has more than enough to do: whoever brings the bytes waits.
            send(index, of: upload)
        }
    }

    /// A part to send, with the upload that it belongs to; `nil` when the part is the one to begin it.
    private func next() -> (index: Int, upload: MultipartUpload?)? {
        state.withLock { state in
            state.take(grid, limit: traits.partsInFlight, isClosing: tools.isClosing).map { ($0, state.upload) }
        }
    }

    private func send(_ index: Int, of upload: MultipartUpload?) {
        let (file, available) = state.withLock { ($0.file, $0.available) }
        guard let file else { preconditionFailure("a part without its file") }
        let range = grid.range(index).clamped(to: 0..<available)
        let length = range.upperBound - range.lowerBound
        send(index, of: upload, .file(file, offset: range.lowerBound, length: length))
        guard available > Self.memoryBytes else { return }
        // An earlier part may have had to wait for the disk when its turn was.
        for index in [index, index - 2 * traits.partsInFlight] where index >= 0 {
            tools.fileSystem.advise(.isNotNeeded, on: grid.range(index), of: file)
        }
    }

    /// Nothing is sent yet: what was written a while ago leaves memory.
    private func trail(_ file: File, _ available: Int64) {
        let end = available - Self.memoryBytes
        guard end > 0 else { return }
        tools.fileSystem.advise(.isNotNeeded, on: max(0, end - Self.memoryBytes / 8)..<end, of: file)
    }

    private func send(_ index: Int, of known: MultipartUpload?, _ body: ObjectBody) {
        do throws(RegistryError) {
            let upload = if let known { known } else { try begin() }
            let part = try upload.map { upload throws(RegistryError) in
                try tools.registry.putBlobPart(index + 1, at: grid.range(index).lowerBound, of: upload, body)
            }
            state.update { state in
                state.inFlight.remove(index)
                guard let part else { return state.next = min(state.next, index) }
                if state.upload == upload { state.parts[index] = part }
            }
        } catch {
            state.update { state in
                state.inFlight.remove(index)
                state.failure = state.failure ?? error
                state.next = min(state.next, index)
                if error.isNoSuchUpload, known == nil || state.upload == known { state.forget() }
            }
        }
    }

    /// The upload, begun now; `nil` when the origin has the blob. Only one part at a time is sent for that.
    private func begin() throws(RegistryError) -> MultipartUpload? {
        let (digest, isAsked) = state.withLock { ($0.digest, $0.isAlone || $0.found != nil) }
        if let digest, !isAsked {
            let found = try tools.lengthAtOrigin(digest)
            state.update { $0.found = found }
        }
        if state.withLock({ $0.isThere }) { return nil }
        let new = try tools.registry.beginBlobUpload(digest)
        // So that a later run can abort it, should this one end now.
        if let id { tools.journal.saveRemote(id, RemoteRecord(upload: new, partBytes: grid.partBytes)) }
        state.update { $0.upload = new }
        return new
    }
}

// MARK: - The end

extension RemoteUpload {
    /// Sends what is missing of a file and makes it the blob, whose digest the caller has verified.
    ///
    /// - Parameter isAsVerified: asked when all was read; else nothing is made of it.
    func finish(
        _ file: File,
        size: Int64,
        as digest: Digest,
        if isAsVerified: () -> Bool = { true }
    ) throws(RegistryError) {
        do throws(RegistryError) {
            try sendRest(of: file, size: size, as: digest, if: isAsVerified)
        } catch {
            // One that has gone, as when its parts were joined to something else, is begun anew: all bytes are here.
            guard error.isNoSuchUpload else { throw error }
            try sendRest(of: file, size: size, as: digest, if: isAsVerified)
        }
    }

    private func sendRest(
        of file: File,
        size: Int64,
        as digest: Digest,
        if isAsVerified: () -> Bool
    ) throws(RegistryError) {
        state.update { state in
            state.file = file
            state.available = size
            state.isWhole = true
            // What it was before the length was known does not count.
            state.found = nil
            state.failure = nil
            state.next = 0
        }
        defer { state.update { $0.isWhole = false } }
        waitUntilIdle()
        guard isAsVerified() else { throw unfinished(digest) }
        try complete(size, as: digest)
    }

    /// Sends the whole parts of a file and waits for them: the file is about to go.
    func empty(_ file: File, _ available: Int64) throws(RegistryError) {
        state.update { state in
            state.file = file
            state.available = grid.start(of: available)
            state.isAlone = true
            state.failure = nil
            state.next = 0
        }
        try settle()
        state.update { $0.file = nil }
    }

    /// Sends a part that is in no file. Returns while it is on its way; the one before is there then.
    func hand(_ index: Int, _ bytes: [UInt8]) throws(RegistryError) {
        try settle()
        let upload = state.withLock { state in
            state.isAlone = true
            state.inFlight.insert(index)
            return state.upload
        }
        if !tools.pool.submit({ [self] in send(index, of: upload, .bytes(bytes)) }) {
            send(index, of: upload, .bytes(bytes))
        }
    }

    /// Sends the last part and makes all of them the blob, whose digest the caller has verified.
    func finish(_ last: [UInt8], size: Int64, as digest: Digest) throws(RegistryError) {
        if !last.isEmpty, !has(last, endingAt: size) { try hand(grid.index(of: size - 1), last) }
        try settle()
        try complete(size, as: digest)
    }

    private func complete(_ size: Int64, as digest: Digest) throws(RegistryError) {
        let (failure, upload, parts, isThere) = state.withLock { state in
            (state.failure.take(), state.upload, state.parts, state.isThere)
        }
        if let failure { throw failure }
        guard !isThere else { return }
        let present = size == 0 ? [] : (0...grid.index(of: size - 1)).compactMap { parts[$0] }
        guard let upload, present.reduce(0, { $0 + $1.length }) == size else { throw unfinished(digest) }
        do throws(RegistryError) {
            try tools.registry.completeBlobUpload(upload, present, as: digest)
        } catch {
            // Parts that the store does not take are no good any more; where they are all that there is, they may be still. A copy that it
            // refuses is not needed when the file is sent again, by now under its name.
            if error.isNoSuchUpload || !error.isRetryable && state.withLock({ $0.file != nil }) { abort() }
            throw error
        }
        state.update { state in
            state.forget()
            state.available = 0
        }
    }

    /// Something ended the sending before all was sent.
    private func unfinished(_ digest: Digest) -> RegistryError {
        let (store, key) = (tools.registry.store, tools.registry.layout.blob(digest))
        return .store(StoreError(.put, in: store.description, key: key, .unreachable, "parts are still to be sent"))
    }

    /// Drops what lies past `size`: those bytes do not count.
    func rewind(to size: Int64) {
        pause()
        state.update { state in
            state.parts = state.parts.filter { grid.range($0.key).lowerBound + $0.value.length <= size }
            state.available = min(state.available, size)
            state.next = 0
            state.failure = nil
            state.isPaused = false
        }
    }

    /// Waits until everything that may be sent has been, or something failed.
    private func waitUntilIdle() {
        pump()
        _ = state.wait { $0.isIdle(grid, isClosing: tools.isClosing) ? true : nil }
    }

    /// Waits for the parts on their way, after which none follows.
    private func pause() {
        state.update { $0.isPaused = true }
        _ = state.wait { $0.inFlight.isEmpty ? true : nil }
    }

    /// Whether the whole parts of the first `size` bytes are there, which are nowhere else.
    func has(upTo size: Int64) -> Bool {
        state.withLock { state in (0..<grid.index(of: size)).allSatisfy { state.parts[$0] != nil } }
    }

    /// Whether the last part is there from an earlier attempt, after which the parts may have been joined: then no other is taken.
    private func has(_ last: [UInt8], endingAt size: Int64) -> Bool {
        state.withLock { $0.parts[grid.index(of: size - 1)]?.length == Int64(last.count) }
    }

    /// Waits for the parts on their way.
    func settle() throws(RegistryError) {
        waitUntilIdle()
        if let failure = state.withLock({ $0.failure.take() }) { throw failure }
    }

    /// Ends the upload at the origin, which keeps nothing of it.
    func abort() {
        pause()
        let upload = state.withLock { state in
            defer {
                state.forget()
                state.available = 0
                state.isPaused = false
            }
            return state.upload
        }
        if let upload { abort(upload) }
    }

    private func abort(_ upload: MultipartUpload) {
        do throws(RegistryError) {
            try tools.registry.abortBlobUpload(upload)
        } catch {
            tools.log.warning(
                "the origin keeps parts of an upload until they count as abandoned",
                metadata: ["upload": "\(upload.key)", "error": "\(error)"]
            )
        }
    }
}

extension RemoteUpload.State {
    mutating func forget() {
        upload = nil
        parts = [:]
        next = 0
        found = nil
    }

    /// The origin has the blob, by its length: nothing needs to be sent. More bytes, or the end of them, may show that it has not.
    var isThere: Bool {
        guard !isAlone, let found else { return false }
        return isWhole ? found == available : found >= available
    }

    /// The next part of the file to send; it counts as on its way from now on. One alone begins the upload.
    ///
    /// Whoever has sent one asks, which may be long after the file has gone or all of it was made the blob.
    mutating func take(_ grid: PartGrid, limit: Int, isClosing: Bool) -> Int? {
        guard file != nil, !isClosing, !isPaused, !isThere, failure == nil,
            inFlight.count < (upload == nil ? 1 : limit)
        else { return nil }
        while true {
            let (index, range) = (next, grid.range(next))
            guard range.lowerBound < available, range.upperBound <= available || isWhole else { return nil }
            next += 1
            let length = min(range.upperBound, available) - range.lowerBound
            guard !inFlight.contains(index), parts[index]?.length != length else { continue }
            inFlight.insert(index)
            return index
        }
    }

    /// More parts wait to be sent than `limit`, while others are on their way.
    func isBehind(_ grid: PartGrid, by limit: Int) -> Bool {
        guard !inFlight.isEmpty, failure == nil, !isPaused, !isThere else { return false }
        return available >= grid.range(next + limit).lowerBound
    }

    /// Nothing is on its way, and nothing will be.
    func isIdle(_ grid: PartGrid, isClosing: Bool) -> Bool {
        guard inFlight.isEmpty else { return false }
        var state = self
        return state.take(grid, limit: 1, isClosing: isClosing) == nil
    }
}

extension RegistryError {
    var isNoSuchUpload: Bool {
        guard case .store(let error) = self, case .noSuchUpload = error.kind else { return false }
        return true
    }
}
