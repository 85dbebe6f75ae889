import Glibc
import Testing

@Suite("bench/TierBench")
struct TierBenchTests {
    private let binary = Settings.packageRoot + "/.build/debug/TierBench"

    /// Bug: it wrote past the watch that the tier keeps over its files, so the tier took nothing in, and `make bench-restart` had nothing to measure.
    @Test func itFillsATierAndLooksBlobsUp() throws {
        try require(access(binary, X_OK) == 0, "no \(binary): build it with `swift build`")
        let folder = try TemporaryDirectory()
        let filled = try runAllowingFailure([binary, "fill", "\(folder.path)/tier", "100"])
        #expect(filled.status == 0 && filled.output.contains("filled 100"), "\(filled)")
        let opened = try runAllowingFailure([binary, "open", "\(folder.path)/tier", "100"])
        #expect(opened.status == 0, "\(opened)")
        for cost in ["hit us", "miss us", "file us"] { #expect(opened.output.contains(cost), "\(opened)") }
    }
}
