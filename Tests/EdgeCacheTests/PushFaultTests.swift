import EdgeCache
import Hashing
import OCI
import ObjectStorage
import Synchronization
import TestDoubles
import Testing

/// Each kind of error at each step of a push in parts, once: the client sends the request that failed again, and that finishes the push.
@Suite struct PushFaultTests {
    enum Step: String, CaseIterable {
        case begin = "BEGIN"
        case part = "PART"
        case complete = "COMPLETE"
        case copy = "COPY"
        case head = "HEAD"
        case abort = "ABORT"
        case remove = "DELETE"
    }

    enum Fault: CaseIterable {
        case broken, timeout, throttled, failed, denied, badCredentials, full, conflict, badAnswer, refusedParts,
            otherSize

        private var kind: StoreError.Kind {
            switch self {
            case .broken: .unreachable
            case .timeout: .timeout
            case .throttled: .throttled
            case .failed: .serverFailure
            case .denied: .denied
            case .badCredentials: .badCredentials
            case .full: .noSpace
            case .conflict: .conflict
            case .badAnswer: .invalidResponse
            case .refusedParts: .other
            case .otherSize: .damagedBody
            }
        }

        var error: StoreError { StoreError(.put, in: "memory", kind, "at once") }
    }

    /// Where the bytes are while the push goes on.
    enum Place: CaseIterable {
        case onDisk, atOriginAlone

        /// With room for a session's record, at least.
        var ceilingBytes: Int64 { self == .onDisk ? 256 << 20 : 1_200_000 }
    }

    private static let content = pattern(700_000)
    private static let digest = Digest(of: content)
    private static let key = "epoch/blobs/sha256/\(digest.hex)"
    private static let parts = 11

    private func edge(_ place: Place) throws -> Edge {
        let traits = MultipartTraits(
            thresholdBytes: 128 << 10,
            partBytes: 64 << 10,
            partsInFlight: 3,
            movesCheaply: false
        )
        return try Edge(store: MemoryStore(multipart: traits), ceilingBytes: place.ceilingBytes) {
            $0.sendsUnnamedParts = true
        }
    }

    private func send(_ edge: Edge, _ id: String, _ range: Range<Int>, closing: Bool = false) throws {
        let chunk = try edge.cache.openChunk(
            library,
            id,
            length: closing ? Int64(range.count) : nil,
            closing: closing ? Self.digest : nil
        )
        for start in stride(from: range.lowerBound, to: range.upperBound, by: 10_000) {
            chunk.append(Array(Self.content[start..<min(start + 10_000, range.upperBound)]).span)
        }
        if closing { try chunk.finish(as: Self.digest) } else { _ = try chunk.keep() }
    }

    /// Sends a request once more if the origin's fault failed it. Returns whether it did.
    private func insist(_ edge: Edge, _ id: String, at offset: Int, _ request: () throws -> Void) throws -> Bool {
        do {
            try request()
            return false
        } catch let error as EdgeError {
            guard case .origin = error else { throw error }
            #expect(try edge.cache.uploadStatus(library, id).offset == Int64(offset), "it stands where it stood")
            try request()
            return true
        }
    }

    @Test(arguments: Fault.allCases, Place.allCases)
    func theRequestThatFailedFinishesIt(_ fault: Fault, _ place: Place) throws {
        for step in Step.allCases {
            let edge = try edge(place)
            let hasStruck = Atomic(false)
            edge.store.intercept { _, call throws(StoreError) in
                guard call.operation == step.rawValue, !hasStruck.exchange(true, ordering: .relaxed) else { return }
                throw fault.error
            }
            let id = try edge.cache.beginUpload(library).id
            _ = try insist(edge, id, at: 0) { try send(edge, id, 0..<300_000) }
            _ = try insist(edge, id, at: 300_000) { try send(edge, id, 300_000..<700_000) }
            let hasFailed = try insist(edge, id, at: 700_000) { try send(edge, id, 0..<0, closing: true) }
            #expect(edge.store[Self.key] == Self.content, "\(step)")
            #expect(hasFailed || ![.complete, .copy].contains(step), "\(step) is told")
            // What else is left, the sweep of abandoned uploads finds.
            if ![.abort, .copy, .remove].contains(step) {
                #expect(edge.store.uploads == [] && edge.store.keys == [Self.key], "\(step)")
            }
            if place == .atOriginAlone, [.complete, .copy].contains(step) {
                #expect(edge.store.calls("ABORT") == 0, "\(step): the parts were nowhere else")
                #expect(edge.store.calls("PART") == Self.parts, "\(step)")
            }
        }
    }

    /// Bug: the last part was sent again to an upload that had been joined, and the client was told that there is none.
    @Test(arguments: [Fault.denied, .failed], [Step.complete, .copy])
    func partsThatAreNowhereElseAreKept(_ fault: Fault, _ step: Step) throws {
        let edge = try edge(.atOriginAlone)
        let id = try edge.cache.beginUpload(library).id
        try send(edge, id, 0..<700_000)
        edge.store.intercept { _, call throws(StoreError) in
            if call.operation == step.rawValue { throw fault.error }
        }
        for _ in 0..<2 {
            #expect(throws: EdgeError.self) { try send(edge, id, 0..<0, closing: true) }
            #expect(try edge.cache.uploadStatus(library, id).offset == 700_000)
        }
        #expect(edge.store.calls("ABORT") == 0)
        #expect(edge.store.calls("PART") == 1, "the last one, once")
        let left = edge.store.uploads
        #expect(left.count == (step == .complete ? 1 : 0))
        // Whoever comes after a kill can do it as well as this process.
        let other = try edge.killed(ceilingBytes: Place.atOriginAlone.ceilingBytes)
        edge.store.intercept(nil)
        for edge in [other, edge] {
            try send(edge, id, 0..<0, closing: true)
            #expect(edge.store[Self.key] == Self.content)
            #expect(edge.store.calls("PART") + edge.store.calls("BEGIN") == 0, "the parts were there")
            #expect(edge.store.keys == [Self.key] && edge.store.uploads == [])
        }
    }
}
