internal import Glibc
internal import Hashing
public import ObjectStorage
internal import Synchronization
internal import System
internal import Threading

/// An object store in memory, as strict as S3, that counts its calls and lets a test fail any of them.
public final class MemoryStore: ObjectStore {
    public struct Call: Sendable, Equatable {
        public let operation: String
        public let key: String
        /// What a GET asked for.
        public var range: Range<Int64>?
    }

    struct Object {
        var bytes: [UInt8]
        var contentType: String?
        var etag: String
        var modified = SystemTime().wallTime()
    }

    struct Upload {
        var key: ObjectKey
        var contentType: String?
        var started: WallTime
        var parts: [Int: (etag: String, bytes: [UInt8])] = [:]
    }

    struct State {
        var objects: [String: Object] = [:]
        var uploads: [String: Upload] = [:]
        var hasCopied = false
        var calls: [Call] = []
        var hook: (@Sendable (Int, Call) throws(StoreError) -> Void)?
        var onPiece: (@Sendable (Call, Int64) throws(StoreError) -> Void)?
        var onMiss: (@Sendable (Call) -> Void)?
        var breakAfterBytes: Int?
        var tampering: (gets: Int, change: @Sendable ([UInt8]) -> [UInt8])?
        var deliveredBytes = 0
        var silentFrom: Int?
        var ignoresNextCheck = false
        var clockOffsetSeconds: Int64 = 0
        var health = StoreHealth()
    }

    private struct Broken: Error {}

    let state = Monitor(State())
    let traits: MultipartTraits
    private let copiesCheaply: Bool?
    private let known: StoreCapabilities
    /// A test says whether it counts as down; the calls go on all the same.
    public let availability = StoreAvailability(isDown: false)
    private let unknown: Mutex<StoreCapabilities?>
    /// How many bytes a GET hands over at a time.
    private let pieceBytes: Int
    private let ignoresRanges: Bool
    private let isEncrypting = Atomic(false)

    public init(
        conditionalWrites: Bool = true,
        etagIsContentHash: Bool = true,
        isFaithful: Bool = true,
        isProbed: Bool = true,
        listLimit: Int = 1000,
        sizeOfALookBytes: Int64 = 0,
        pieceBytes: Int = 16 << 10,
        ignoresRanges: Bool = false,
        multipart: MultipartTraits = MultipartTraits(
            thresholdBytes: 32 << 20,
            partBytes: 16 << 20,
            partsInFlight: 4,
            movesCheaply: false
        ),
        copiesCheaply: Bool? = nil
    ) {
        traits = multipart
        self.copiesCheaply = copiesCheaply
        known = StoreCapabilities(
            ifAbsent: conditionalWrites,
            ifMatch: conditionalWrites,
            etagIsContentHash: etagIsContentHash,
            keepsContentType: true,
            listLimit: listLimit,
            sizeOfALookBytes: sizeOfALookBytes,
            isFaithful: isFaithful
        )
        var unknown = StoreCapabilities(
            ifAbsent: false,
            ifMatch: false,
            etagIsContentHash: false,
            keepsContentType: true,
            listLimit: listLimit
        )
        unknown.areKnown = false
        self.unknown = Mutex(isProbed ? nil : unknown)
        self.pieceBytes = pieceBytes
        self.ignoresRanges = ignoresRanges
    }

    /// Where it is to be found out, a copy shows whether it moves cheaply.
    public var multipart: MultipartTraits {
        var traits = traits
        if traits.movesCheaply == nil, state.withLock({ $0.hasCopied }) { traits.movesCheaply = copiesCheaply }
        return traits
    }

    public var description: String { "memory" }
    public var capabilities: StoreCapabilities { unknown.withLock { $0 } ?? known }

    public var health: StoreHealth {
        get { state.withLock { $0.health } }
        set { state.withLock { $0.health = newValue } }
    }

    public var clockOffsetSeconds: Int64 {
        get { state.withLock { $0.clockOffsetSeconds } }
        set { state.withLock { $0.clockOffsetSeconds = newValue } }
    }

    /// Runs before each call, with its number counted from 1; what it throws is what the call throws.
    public func intercept(_ hook: (@Sendable (Int, Call) throws(StoreError) -> Void)?) {
        state.withLock { state in
            state.hook = hook
            state.calls = []
        }
    }

    /// Runs before each piece that a GET hands over, with its offset in the object; what it throws is what the call throws.
    public func interceptPieces(_ hook: (@Sendable (Call, Int64) throws(StoreError) -> Void)?) {
        state.withLock { $0.onPiece = hook }
    }

    /// Runs when a HEAD or GET has found nothing, before it says so.
    public func interceptMisses(_ hook: (@Sendable (Call) -> Void)?) {
        state.withLock { $0.onMiss = hook }
    }

    private func missed(_ call: Call) {
        state.withLock { $0.onMiss }?(call)
    }

    /// From now on, ETags are no hashes of the content, whatever the store says of itself.
    public func encrypt(_ isEncrypting: Bool) { self.isEncrypting.store(isEncrypting, ordering: .relaxed) }

    /// What all GETs have handed over.
    public var deliveredBytes: Int { state.withLock { $0.deliveredBytes } }

    /// The next GET breaks off after that many bytes.
    /// Changes what the next so many GETs bring; the ETag stays that of the object.
    public func tamper(gets: Int, _ change: @escaping @Sendable ([UInt8]) -> [UInt8]) {
        state.withLock { $0.tampering = (gets, change) }
    }

    public func breakNextGet(afterBytes count: Int) {
        state.withLock { $0.breakAfterBytes = count }
    }

    /// All calls since the last ``intercept(_:)``.
    public var calls: [Call] { state.withLock { $0.calls } }

    public func calls(_ operation: String) -> Int { calls.filter { $0.operation == operation }.count }

    public subscript(key: String) -> [UInt8]? {
        get { state.withLock { $0.objects[key]?.bytes } }
        set {
            state.withLock { state in
                state.objects[key] = newValue.map { Object(bytes: $0, contentType: nil, etag: self.etag($0)) }
            }
        }
    }

    public var keys: [String] { state.withLock { $0.objects.keys.sorted() } }
    public func contentType(_ key: String) -> String? { state.withLock { $0.objects[key]?.contentType } }

    func etag(_ bytes: [UInt8]) -> String {
        let isHash = capabilities.etagIsContentHash && !isEncrypting.load(ordering: .relaxed)
        return isHash ? hexadecimal(md5(bytes)) : hexadecimal(md5(Array(SystemRandom().token().utf8)))
    }

    @discardableResult
    func enter(_ operation: String, _ key: String, _ range: Range<Int64>? = nil) throws(StoreError) -> Call {
        let call = Call(operation: operation, key: key, range: range)
        let (hook, number) = state.withLock { state in
            state.calls.append(call)
            return (state.hook, state.calls.count)
        }
        try hook?(number, call)
        return call
    }

    private func find(_ key: ObjectKey) -> Object? { state.withLock { $0.objects[key.description] } }

    private func info(_ object: Object) -> ObjectInfo {
        ObjectInfo(
            size: Int64(object.bytes.count),
            etag: object.etag,
            contentType: object.contentType,
            lastModified: nil
        )
    }

    public func head(_ key: ObjectKey) throws(StoreError) -> ObjectInfo? {
        let call = try enter("HEAD", key.description)
        let found = find(key).map(info)
        if found == nil { missed(call) }
        return found
    }

    /// From this byte on of each object, the origin says nothing; until it does, or nobody waits.
    public func silence(from offset: Int?) { state.withLock { $0.silentFrom = offset } }

    private func waitInSilence(_ call: Call, at offset: Int, _ isCancelled: () -> Bool) throws(StoreError) {
        // As a client does that asks now and then.
        while state.withLock({ $0.silentFrom.map { offset >= $0 } ?? false }) {
            if isCancelled() { throw Self.unreachable(call) }
            usleep(1_000)
        }
    }

    public func get(
        _ key: ObjectKey,
        range: Range<Int64>?,
        ifNoneMatch: String?,
        isCancelled: @escaping @Sendable () -> Bool,
        begin: (ObjectInfo) throws -> Void,
        receive: (Span<UInt8>) throws -> Void
    ) throws(StoreError) -> GetOutcome {
        let call = try enter("GET", key.description, range)
        guard var object = find(key) else {
            missed(call)
            return .notFound
        }
        if let ifNoneMatch, ifNoneMatch == object.etag { return .notModified }
        let tampering = state.withLock { state in
            let tampering = state.tampering
            state.tampering?.gets -= 1
            return tampering
        }
        if let tampering, tampering.gets > 0 { object.bytes = tampering.change(object.bytes) }
        let all = 0..<object.bytes.count
        if let range, range.lowerBound >= object.bytes.count {
            throw StoreError(.get, in: description, key: key, .invalidRange, "")
        }
        let wanted = range.map { Int($0.lowerBound)..<Int($0.upperBound) }?.clamped(to: all) ?? all
        do {
            var info = info(object)
            info.cameWhole = ignoresRanges && wanted != all
            try begin(info)
            if info.cameWhole { state.withLock { $0.deliveredBytes += all.count - wanted.count } }
            let (limit, onPiece) = state.withLock { ($0.breakAfterBytes.take(), $0.onPiece) }
            for start in stride(from: wanted.lowerBound, to: wanted.upperBound, by: pieceBytes) {
                if let limit, start - wanted.lowerBound >= limit { throw Broken() }
                try waitInSilence(call, at: start, isCancelled)
                try onPiece?(call, Int64(start))
                let piece = object.bytes[start..<min(start + pieceBytes, wanted.upperBound)]
                state.withLock { $0.deliveredBytes += piece.count }
                try receive(piece.span)
            }
        } catch is Broken {
            throw StoreError(.get, in: description, key: key, .damagedBody, "")
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.get, in: description, key: key, .receiver(error), "")
        }
        return .complete(info(object))
    }

    public func put(
        _ key: ObjectKey,
        _ body: ObjectBody,
        contentType: String?,
        condition: PutCondition
    ) throws(StoreError) -> PutOutcome {
        try enter("PUT", key.description)
        let bytes = try contents(of: body, key)
        return state.withLock { state in
            let existing = state.objects[key.description]
            switch condition {
            case .ifAbsent where existing != nil: return .conditionFailed
            case .ifMatch(let etag) where existing?.etag != etag: return .conditionFailed
            default: break
            }
            let etag = self.etag(bytes)
            state.objects[key.description] = Object(bytes: bytes, contentType: contentType, etag: etag)
            return .stored(etag: etag)
        }
    }

    func contents(of body: ObjectBody, _ key: ObjectKey) throws(StoreError) -> [UInt8] {
        switch body {
        case .bytes(let content): return content
        case .file(let file, let offset, let length, _):
            do throws(FileError) {
                return try LocalFileSystem().read(file, at: offset, count: Int(length))
            } catch {
                throw StoreError(.put, in: description, key: key, .file(error), "")
            }
        }
    }

    public func delete(_ key: ObjectKey) throws(StoreError) {
        try enter("DELETE", key.description)
        state.withLock { _ = $0.objects.removeValue(forKey: key.description) }
    }

    public func delete(_ keys: [ObjectKey]) throws(StoreError) {
        try enter("DELETE-MANY", keys.map(\.description).joined(separator: " "))
        state.withLock { state in
            for key in keys { state.objects[key.description] = nil }
        }
    }

    public func list(
        prefix: String,
        delimiter: String?,
        after: String?,
        continuation: String?,
        limit: Int
    ) throws(StoreError) -> ListPage {
        try enter("LIST", prefix)
        let start = continuation ?? after ?? ""
        var objects: [ListedObject] = []
        var prefixes: [String] = []
        var last = ""
        for key in keys where key.hasPrefix(prefix) && key > start {
            let rest = key.dropFirst(prefix.count)
            let folder = delimiter.flatMap { delimiter in
                rest.firstRange(of: delimiter).map { prefix + rest[..<$0.upperBound] }
            }
            if let folder, prefixes.last == folder || start.hasPrefix(folder) { continue }
            guard objects.count + prefixes.count < limit else {
                return ListPage(objects: objects, commonPrefixes: prefixes, continuation: last)
            }
            if let folder {
                prefixes.append(folder)
                last = folder
            } else if let object = try? ObjectKey(key), let stored = find(object) {
                objects.append(
                    ListedObject(
                        key: object,
                        size: Int64(stored.bytes.count),
                        etag: stored.etag,
                        lastModified: stored.modified
                    )
                )
                last = key
            }
        }
        return ListPage(objects: objects, commonPrefixes: prefixes, continuation: nil)
    }

    /// The next check hears nothing for as long as it waits.
    public func ignoreNextCheck() { state.withLock { $0.ignoresNextCheck = true } }

    public func check(isCancelled: @escaping @Sendable () -> Bool) throws(StoreError) {
        let call = try enter("CHECK", "")
        let isIgnored = state.withLock { state in
            defer { state.ignoresNextCheck = false }
            return state.ignoresNextCheck
        }
        guard isIgnored else { return }
        while !isCancelled() { usleep(1_000) }
        throw Self.unreachable(call)
    }

    @discardableResult
    public func probe(at key: ObjectKey) throws(StoreError) -> StoreCapabilities {
        guard !capabilities.areKnown else { return known }
        _ = try enter("PROBE", key.description)
        unknown.withLock { $0 = nil }
        return known
    }

    /// A call that found no connection.
    public static func unreachable(_ call: Call) -> StoreError {
        StoreError(.get, in: "memory", .unreachable, "\(call.operation) \(call.key)")
    }
}
