import Foundation
import Glibc
import Synchronization
import Testing

/// Pushes, pulls, ranges and deletes at once, and in the middle of it SIGKILL, again and again.
///
/// `FOREBAY_TEST_ROUNDS` makes it longer, `FOREBAY_TEST_SEED` repeats one.
@Suite("Kill -9 under mixed load")
struct KillLoopTests {
    @Test(arguments: OriginKind.allCases)
    func nothingAcknowledgedIsLostAndNothingWrongServed(origin: OriginKind) throws {
        let environment = Settings.environment
        let rounds = environment["FOREBAY_TEST_ROUNDS"].flatMap(Int.init) ?? 3
        let seed = environment["FOREBAY_TEST_SEED"].flatMap(UInt64.init) ?? UInt64.random(in: 1...1_000_000)
        try withForebay(origin, cacheSize: "40MiB", flags: ["--upload-expiry", "1s"]) { forebay in
            let load = MixedLoad(seed: seed, endpoint: forebay.endpoint)
            try load.pushLarge()
            var leftovers: [Int] = []
            // On a slow machine it takes some more until everything was done once.
            for round in 0..<10 * rounds where round < rounds || !load.unseen.isEmpty {
                load.noteAll("round \(round)")
                try forebay.kill(after: { try load.run(round: round, kill: $0) })
                try forebay.start()
                for problem in load.problems + (try load.check()) {
                    Issue.record("FOREBAY_TEST_SEED=\(seed), round \(round): \(problem)")
                }
                let incoming = Set(files(below: forebay.cacheDirectory + "/incoming"))
                // A fill that was broken off is kept with a note of its parts.
                leftovers.append(
                    incoming.count { !$0.hasSuffix(".parts") && !incoming.contains($0 + ".parts") }
                )
                let used = try largestAllocation(below: forebay.cacheDirectory) {}
                #expect(used <= 40 << 20, "FOREBAY_TEST_SEED=\(seed), round \(round): \(used) bytes")
            }
            #expect(leftovers.allSatisfy { $0 <= 8 }, "what a kill leaves is cleared away: \(leftovers)")
            #expect(load.unseen.isEmpty, "FOREBAY_TEST_SEED=\(seed): the load did nothing of these")
            print("kill -9: \(rounds) rounds, seed \(seed): \(load.summary)")
        }
    }
}

extension Forebay {
    /// Runs `body` with what kills the process, and waits for the end of both.
    fileprivate func kill(after body: (_ kill: @escaping @Sendable () -> Void) throws -> Void) throws {
        let process = try #require(processIdentifier)
        try body { _ = Glibc.kill(process, SIGKILL) }
        kill()
    }
}

/// What clients do at once, and what they know of the truth.
private final class MixedLoad: Sendable {
    private enum Truth {
        case unknown
        /// Acknowledged: it must be there.
        case stored
        /// Acknowledged: it must not be there.
        case deleted
    }

    private enum Push: CaseIterable {
        case whole, inChunks
        /// A session, with two PATCHes.
        case inPieces
    }

    private struct State {
        var truths: [Truth]
        /// Contents that a client works on: one at a time for each, so that the truth has an order.
        var busy: Set<Int> = []
        var problems: [String] = []
        var counts: [String: Int] = [:]
        /// What was done with each content, and how it was answered.
        var history: [Int: [String]] = [:]
    }

    private static let clients = 6
    private static let sizes = [0, 700, 16_384, 16_385, 60_000, 400_000, 1_500_000]
    /// Read only, by several at once: files so large that they are hashed while they are read.
    private static let largeSizes = [9_000_000, 11_000_000]
    private static let readers = 3

    private let seed: UInt64
    private let endpoint: Endpoint
    private let contents: [[UInt8]]
    private let digests: [String]
    private let large: Range<Int>
    private let state: Mutex<State>

    init(seed: UInt64, endpoint: Endpoint) {
        self.seed = seed
        self.endpoint = endpoint
        // More than the cache takes.
        let sizes = (0..<84).map { Self.sizes[$0 % Self.sizes.count] + $0 / 7 } + Self.largeSizes
        contents = sizes.enumerated().map { noise($1, seed: UInt64($0) + 9_000) }
        large = 84..<sizes.count
        digests = contents.map { sha256($0) }
        state = Mutex(State(truths: Array(repeating: .unknown, count: contents.count)))
    }

    /// What a load is made of and did not succeed even once before a kill.
    var unseen: [String] {
        let wanted = Push.allCases.map { "pushed \($0)" } + ["pulled", "ranged", "deleted"]
        return state.withLock { state in wanted.filter { state.counts[$0] == nil } }
    }

    var summary: String { state.withLock { "\($0.counts.sorted { $0.key < $1.key })" } }

    /// What clients have seen that must not be, since the last time this was asked.
    var problems: [String] {
        state.withLock { state in
            defer { state.problems = [] }
            return state.problems
        }
    }

    /// Works until the process is gone.
    func run(round: Int, kill: @escaping @Sendable () -> Void) throws {
        let isOver = Atomic(false)
        Thread.detachNewThread { [seed] in
            var random = Random(seed &+ UInt64(round))
            usleep(UInt32(random.below(700_000) + 50_000))
            kill()
        }
        let clients = Self.clients + Self.readers
        _ = try inParallel(clients) { [self] client in
            var random = Random(seed &* 31 &+ UInt64(round * clients + client))
            while !isOver.load(ordering: .relaxed) {
                do {
                    if client < Self.clients { try step(&random) } else { try readLarge(&random) }
                } catch {
                    // The process is gone, or this connection was cut with it.
                    if (try? Connection(to: endpoint)) == nil { isOver.store(true, ordering: .relaxed) }
                }
            }
        }
    }

    func pushLarge() throws {
        for number in large {
            try Repository(endpoint).push(blob: contents[number])
            change(number, to: .stored)
        }
    }

    private func readLarge(_ random: inout Random) throws {
        let number = large.lowerBound + random.below(large.count)
        if random.below(8) == 0 { return try pull(number) }
        try pullRange(number, random.below(contents[number].count), random.below(3_000_000) + 1)
    }

    private func step(_ random: inout Random) throws {
        let number = random.below(large.lowerBound)
        guard state.withLock({ $0.busy.insert(number).inserted }) else { return }
        defer { state.withLock { _ = $0.busy.remove(number) } }
        switch random.below(10) {
        case 0..<4: try push(number, Push.allCases[random.below(Push.allCases.count)])
        case 4..<6: try pull(number)
        case 6..<8: try pullRange(number, random.below(max(1, contents[number].count)))
        default: try delete(number)
        }
    }

    private func push(_ number: Int, _ way: Push) throws {
        let before = change(number, to: .unknown)
        note(number, "push \(way)")
        let response = try send(contents[number], digests[number], way)
        note(number, "\(response.status)")
        switch response.status {
        case 201:
            change(number, to: .stored)
            count("pushed \(way)")
        case 503, 507:
            change(number, to: before)
            count("refused")
        // A session that was not used for a second is over.
        case 404 where way == .inPieces:
            change(number, to: before)
            count("expired")
        default: problem("push of \(number) \(way): \(response.status) \(response.text.prefix(200))", with: number)
        }
    }

    /// The answer that a client gets in the end, or the first that is none to go on from.
    private func send(_ content: [UInt8], _ digest: String, _ way: Push) throws -> Response {
        let repository = Repository(endpoint)
        let whole = "blobs/uploads/?digest=\(digest)"
        switch way {
        case .whole: return try repository.request("POST", whole, body: .bytes(content))
        case .inChunks: return try repository.request("POST", whole, body: .chunked([content]))
        case .inPieces:
            var response = try repository.request("POST", "blobs/uploads/")
            for piece in [content.prefix(content.count / 2), content.dropFirst(content.count / 2)] {
                guard response.status == 202, let session = response.location else { return response }
                response = try endpoint.request("PATCH", session, body: .bytes(Array(piece)))
            }
            guard response.status == 202, let session = response.location else { return response }
            return try endpoint.request("PUT", adding("digest=\(digest)", to: session))
        }
    }

    private func pull(_ number: Int, as done: String = "pulled") throws {
        note(number, "pull")
        let response = try Repository(endpoint).request("GET", "blobs/\(digests[number])")
        note(number, "\(response.status)")
        judge(number, response, contents[number], done)
    }

    private func pullRange(
        _ number: Int,
        _ start: Int,
        _ length: Int = 50_000,
        as done: String = "ranged"
    ) throws {
        guard !contents[number].isEmpty else { return }
        let end = min(contents[number].count, start + length)
        note(number, "range")
        let response = try Repository(endpoint)
            .request("GET", "blobs/\(digests[number])", ["Range": "bytes=\(start)-\(end - 1)"])
        note(number, "\(response.status)")
        judge(number, response, Array(contents[number][start..<end]), done)
    }

    private func judge(_ number: Int, _ response: Response, _ expected: [UInt8], _ done: String) {
        let truth = state.withLock { $0.truths[number] }
        switch response.status {
        case 200, 206:
            if !same(response.body, expected) {
                problem("\(number) (\(digests[number])), \(done): wrong bytes", with: number)
            }
            if truth == .deleted { problem("\(number), \(done): it was deleted", with: number) }
            count(done)
        case 404:
            if truth == .stored { problem("\(number) (\(digests[number])), not \(done): it is gone", with: number) }
            count("absent")
        case 502, 503, 504:
            count("busy")
        default:
            problem("\(number), not \(done): \(response.status) \(response.text.prefix(200))", with: number)
        }
    }

    private func delete(_ number: Int) throws {
        change(number, to: .unknown)
        note(number, "delete")
        let response = try Repository(endpoint).request("DELETE", "blobs/\(digests[number])")
        note(number, "\(response.status)")
        guard response.status == 202 || response.status == 404 else {
            return problem("delete of \(number): \(response.status) \(response.text.prefix(200))", with: number)
        }
        change(number, to: .deleted)
        count(response.status == 202 ? "deleted" : "absent")
    }

    /// After the restart: everything, against what is known.
    func check() throws -> [String] {
        // Nothing has hashed them yet.
        _ = try inParallel(4) { [self] client in
            for number in large { try pullRange(number, client * contents[number].count / 4, 2_000_000, as: "checked") }
        }
        for number in contents.indices {
            if number % 3 == 0 { try pullRange(number, contents[number].count / 2, as: "checked") }
            try pull(number, as: "checked")
        }
        return problems
    }

    @discardableResult
    private func change(_ number: Int, to truth: Truth) -> Truth {
        state.withLock { state in
            defer { state.truths[number] = truth }
            return state.truths[number]
        }
    }

    private func problem(_ text: String, with number: Int) {
        state.withLock { $0.problems.append("\(text); before: \($0.history[number] ?? [])") }
    }

    func noteAll(_ event: String) { for number in contents.indices { note(number, event) } }

    private func note(_ number: Int, _ event: String) {
        state.withLock { $0.history[number] = ($0.history[number] ?? []).suffix(11) + [event] }
    }

    private func count(_ what: String) { state.withLock { $0.counts[what, default: 0] += 1 } }
}

/// Numbers that come again with the seed.
private struct Random {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

    mutating func below(_ limit: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int((state &* 0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}
