// A tier with many blobs: how long it takes to open, what memory it takes, what a lookup costs. See bench/restart.py.
//
// usage: TierBench fill DIR COUNT             real files of 8 bytes, each in a block of its own
//        TierBench open DIR COUNT [crash]     opens, looks up, closes; `crash` leaves it as a kill does

import DiskTier
import Glibc
import Hashing
import OCI
import System
import Synchronization
import Threading

func content(_ number: Int) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } }

func digest(_ number: Int) -> Digest { Digest(of: content(number)) }

func configuration(_ directory: String) -> DiskTier.Configuration {
    var configuration = DiskTier.Configuration(directory: directory, ceilingBytes: 1 << 40)
    configuration.inlineLimitBytes = 0
    return configuration
}

func milliseconds(_ duration: Duration) -> String {
    let milliseconds =
        Double(duration.components.seconds) * 1000 + Double(duration.components.attoseconds) / 1_000_000_000_000_000
    return String(Double(Int(milliseconds * 100)) / 100)
}

/// `VmRSS`, `RssAnon` and `RssFile` in KiB.
func memory() -> String {
    guard let status = fopen("/proc/self/status", "r") else { return "" }
    defer { fclose(status) }
    var text = [CChar](repeating: 0, count: 16384)
    let length = fread(&text, 1, text.count, status)
    return String(decoding: text[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self).split(separator: "\n")
        .filter { $0.hasPrefix("VmRSS") || $0.hasPrefix("RssAnon") || $0.hasPrefix("RssFile") }
        .map { $0.split(whereSeparator: { $0 == " " || $0 == "\t" }).prefix(2).joined() }.joined(separator: " ")
}

func fill(_ directory: String, _ count: Int) throws {
    let files = FastFileSystem()
    let tier = try DiskTier(configuration(directory), fileSystem: files)
    tier.waitUntilSettled()
    let pool = WorkerPool(name: "fill", threads: 31, queueLimit: 64)
    let failure = Mutex<(any Error)?>(nil)
    pool.forEach(below: count) { number in
        do {
            let bytes = content(number)
            let file = try tier.newFile(tier.reserve(8))
            try file.watch.write(bytes.span, at: 0)
            _ = try file.commit(as: digest(number), size: 8, since: tier.stamp())
        } catch {
            failure.withLock { $0 = error }
        }
    }
    pool.close()
    tier.close()
    if let failure = failure.withLock({ $0 }) { throw failure }
    print("filled \(count), index \(tier.statistics.indexBytes >> 20) MiB")
}

/// Microseconds each, the median of nine rounds.
func cost(_ numbers: Range<Int>, _ body: (Digest) throws -> Void) rethrows -> String {
    var rounds: [Double] = []
    var random = SystemRandomNumberGenerator()
    for _ in 0..<9 {
        let digests = (0..<20_000).map { _ in digest(Int.random(in: numbers, using: &random)) }
        let start = ContinuousClock.now
        for digest in digests { try body(digest) }
        let took = ContinuousClock.now - start
        rounds.append(
            Double(took.components.attoseconds) / 1e12 / 20_000 + Double(took.components.seconds) * 1e6 / 20_000
        )
    }
    rounds.sort()
    return String(Double(Int(rounds[4] * 100)) / 100)
}

/// What the kernel alone takes for a file that is not kept open.
func touch(_ path: String) {
    let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    precondition(descriptor >= 0)
    var status = stat()
    fstat(descriptor, &status)
    close(descriptor)
}

func open(_ directory: String, _ count: Int, crash: Bool) throws {
    let before = ContinuousClock.now
    let tier = try DiskTier(configuration(directory))
    let opened = ContinuousClock.now
    _ = try tier.lookup(digest(count / 2))
    let answered = ContinuousClock.now
    print("open ms", milliseconds(opened - before), "first lookup ms", milliseconds(answered - opened), memory())
    tier.waitUntilSettled()
    print("settled after ms", milliseconds(ContinuousClock.now - before), memory())
    if crash { exit(9) }
    print("hit us", try cost(0..<count) { _ = try tier.lookup($0) })
    print("miss us", try cost(count..<count + 1_000_000) { _ = try tier.lookup($0) })
    print("file us", cost(0..<count) { touch("\(directory)/blobs/sha256/\($0.hex.prefix(2))/\($0.hex)") })
    print("after 360,000 lookups", memory(), "index MiB", tier.statistics.indexBytes >> 20)
    tier.close()
}

let arguments = CommandLine.arguments
guard arguments.count >= 4, let count = Int(arguments[3]) else {
    print("usage: TierBench fill|open DIR COUNT [crash]")
    exit(64)
}
if arguments[1] == "fill" {
    try fill(arguments[2], count)
} else {
    try open(arguments[2], count, crash: arguments.contains("crash"))
}
