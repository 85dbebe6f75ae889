import FaultProxy
import HTTPClient
import ObjectStorage
import Synchronization
import System
import TestDoubles
import Testing

/// What decides whether parts are sent before their digest is known: what it cost lately to copy them to their name, beside sending them.
@Suite struct MovingCostTests {
    private static let unnamed = try! ObjectKey("_uploads/x")  // Literals that are keys.
    private static let named = try! ObjectKey("blobs/x")

    /// A store by whose clock a part takes a second, and a copy what a test says.
    private final class Bucket: Sendable {
        let time = ManualTime()
        let server: ScriptedServer
        let store: S3Store
        private let copyMilliseconds: Box
        private let length: Box

        private final class Box: Sendable {
            let value = Atomic(0)
        }

        init() throws {
            let (time, copy, length) = (time, Box(), Box())
            (copyMilliseconds, self.length) = (copy, length)
            server = ScriptedServer { request, _ in
                switch request.operation {
                case .createUpload: return .ok("<R><UploadId>u</UploadId></R>")
                case .uploadPart:
                    time.advance(.seconds(1))
                    return .ok("", [("ETag", "\"e\"")])
                case .copy:
                    let milliseconds = copy.value.load(ordering: .relaxed)
                    if milliseconds == 0 { return .status(403, "AccessDenied") }
                    time.advance(.milliseconds(milliseconds))
                    return .ok("<CopyObjectResult/>")
                case .head:
                    let length = length.value.load(ordering: .relaxed)
                    return ScriptedServer.Answer(headers: [("ETag", "\"e\"")], length: length)
                default: return .ok("<R/>")
                }
            }
            var configuration = try server.configuration()
            configuration.partsInFlight = 4
            store = S3Store(configuration, client: try Client(ClientConfiguration()), time: time)
        }

        deinit { server.stop() }

        var movesCheaply: Bool? { store.multipart.movesCheaply }

        /// By default eight parts, four at once: that would take two seconds.
        func push(copyMilliseconds milliseconds: Int, parts count: Int = 8, as key: ObjectKey = named) throws {
            copyMilliseconds.value.store(milliseconds, ordering: .relaxed)
            let upload = try store.beginUpload(unnamed, contentType: nil)
            let body = ObjectBody.bytes([UInt8](repeating: 7, count: 1_000))
            length.value.store(count * 1_000, ordering: .relaxed)
            let parts = try (1...count)
                .map { try store.putPart($0, at: Int64($0 - 1) * 1_000, of: upload, body) }
            try store.completeUpload(upload, parts, as: key)
        }
    }

    @Test func aCopyIsCheapUpToAQuarterOfTheSending() throws {
        let bucket = try Bucket()
        #expect(bucket.movesCheaply == nil, "the first upload shows what it costs")
        try bucket.push(copyMilliseconds: 499)
        #expect(bucket.movesCheaply == true)
        try bucket.push(copyMilliseconds: 501)
        #expect(bucket.movesCheaply == false)
        try bucket.push(copyMilliseconds: 499)
        #expect(bucket.movesCheaply == true, "the last one counts")
    }

    /// What each request takes weighs more there.
    @Test func aCopyOfOnePartIsCheapUpToAHalfOfItsSending() throws {
        let bucket = try Bucket()
        try bucket.push(copyMilliseconds: 499, parts: 1)
        #expect(bucket.movesCheaply == true)
        try bucket.push(copyMilliseconds: 501, parts: 1)
        #expect(bucket.movesCheaply == false)
    }

    @Test func aDearCopyIsTriedAgainAfterAnHour() throws {
        let bucket = try Bucket()
        for _ in 0..<2 {
            try bucket.push(copyMilliseconds: 2_000)
            #expect(bucket.movesCheaply == false)
            bucket.time.advance(.seconds(3_599))
            #expect(bucket.movesCheaply == false)
            bucket.time.advance(.seconds(1))
            #expect(bucket.movesCheaply == nil)
        }
    }

    @Test func whatIsNotCopiedTellsNothing() throws {
        let bucket = try Bucket()
        try bucket.push(copyMilliseconds: 9_000, as: Self.unnamed)
        #expect(bucket.movesCheaply == nil, "it stays where it is")
        #expect(throws: StoreError.self) { try bucket.push(copyMilliseconds: 0) }
        #expect(bucket.movesCheaply == false, "a store that copies nothing is not asked each time")
    }
}
