import Glibc
import Synchronization
import System
import Testing

private let fileSystem = LocalFileSystem()

private func withTemporaryDirectory(_ body: (String) throws -> Void) throws {
    var template = Array("/tmp/forebay-test-XXXXXX".utf8CString)
    let path = try #require(mkdtemp(&template).map { String(cString: $0) })
    defer {
        for entry in (try? fileSystem.entries(of: path)) ?? [] { _ = try? fileSystem.remove("\(path)/\(entry.name)") }
        rmdir(path)
    }
    try body(path)
}

@Suite struct FileAttributeTests {
    @Test func keepsAttributes() throws {
        try withTemporaryDirectory { directory in
            let file = try fileSystem.open("\(directory)/a", .create)
            #expect(try fileSystem.attribute("user.forebay.test", of: file, limitBytes: 16) == nil)
            guard try fileSystem.setAttribute("user.forebay.test", Array("value".utf8), of: file) else { return }
            try fileSystem.rename("\(directory)/a", to: "\(directory)/b")
            let again = try fileSystem.open("\(directory)/b", .read)
            #expect(try fileSystem.attribute("user.forebay.test", of: again, limitBytes: 16) == Array("value".utf8))
            #expect(throws: FileError.self) { try fileSystem.attribute("user.forebay.test", of: again, limitBytes: 4) }
        }
    }

    @Test func setsTimes() throws {
        try withTemporaryDirectory { directory in
            let file = try fileSystem.open("\(directory)/a", .create)
            try fileSystem.setModified(file, nanoseconds: 1_700_000_000_123_456_789)
            #expect(try fileSystem.status(of: file).modifiedNanoseconds == 1_700_000_000_123_456_789)
        }
    }

    @Test func resolvesAndTellsLinks() throws {
        try withTemporaryDirectory { directory in
            _ = try fileSystem.open("\(directory)/a", .create)
            #expect(symlink("\(directory)/a", "\(directory)/link") == 0)
            let real = try fileSystem.resolve(directory)
            #expect(try fileSystem.resolve("\(directory)/./link") == "\(real)/a")
            let error = #expect(throws: FileError.self) { try fileSystem.resolve("\(directory)/none/x") }
            #expect(error?.isNotFound == true)
            let links = try fileSystem.entries(of: directory).filter(\.isLink).map(\.name)
            #expect(links == ["link"])
        }
    }

    /// The lock belongs to the open file, so it also keeps out threads of this process, and ends with the last reference.
    @Test func locksUntilClosed() throws {
        try withTemporaryDirectory { directory in
            let path = "\(directory)/lock"
            var first: File? = try fileSystem.open(path, .create)
            try fileSystem.lock(try #require(first))
            let second = try fileSystem.open(path, .readWrite)
            #expect(flock(second.descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
            first = nil
            try fileSystem.lock(second)
        }
    }
}

@Suite struct RFC3339Tests {
    @Test(arguments: [
        ("2026-04-23T08:15:30Z", WallTime(seconds: 1_776_932_130)),
        ("2026-04-23T08:15:30.25Z", WallTime(seconds: 1_776_932_130, nanoseconds: 250_000_000)),
        ("2026-04-23T10:15:30.123456789+02:00", WallTime(seconds: 1_776_932_130, nanoseconds: 123_456_789)),
        ("2026-04-23T08:15:30.1234567891Z", WallTime(seconds: 1_776_932_130, nanoseconds: 123_456_789)),
        ("1970-01-01T00:00:00Z", WallTime(seconds: 0)),
    ])
    func reads(_ text: String, _ expected: WallTime) {
        #expect(WallTime(rfc3339: text) == expected)
    }

    @Test(arguments: [
        "", "2026-04-23", "2026-04-23T08:15:30", "2026-04-23T08:15:30.Z", "2026-04-23T08:15:30Zx", "Thu, 23 Apr 2026",
        "2026-13-23T08:15:30Z",
    ])
    func refuses(_ text: String) {
        #expect(WallTime(rfc3339: text) == nil)
    }

    @Test func readsWhatItWrites() {
        for time in [WallTime(seconds: 1_776_932_130, nanoseconds: 1), WallTime(seconds: 4_102_444_800)] {
            #expect(WallTime(rfc3339: time.rfc3339) == time)
        }
    }
}
