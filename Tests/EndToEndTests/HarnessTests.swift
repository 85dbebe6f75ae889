import Glibc
import Testing

/// What counts requests and ends programs is itself put to the test: a counter that sees nothing proves nothing.
@Suite("The tests' own tools")
struct HarnessTests {
    @Test func aProgramsEndIsItsStatus() throws {
        #expect(try runAllowingFailure(["sh", "-c", "echo out; echo err >&2; exit 69"]).status == 69)
        #expect(try runAllowingFailure(["sh", "-c", "kill -9 $$"]).status == 128 + SIGKILL)
        #expect(
            try run(["sh", "-c", "echo $VARIABLE; pwd"], environment: ["VARIABLE": "x"], directory: "/") == "x\n/\n"
        )
        #expect(throws: CommandFailure.self) { try run(["false"]) }
        #expect(throws: DeadlineExceeded.self) { try run(["sleep", "60"], seconds: 0.1) }
        let folder = try TemporaryDirectory()
        let sleeper = try Command(["sleep", "60"], log: folder.path + "/log")
        sleeper.signal(SIGTERM)
        #expect(try sleeper.wait(seconds: 10).status == 128 + SIGTERM)
    }
}
