import Glibc
import System
import Testing

/// A folder of this test's own, removed with the value.
final class TemporaryFolder {
    let path: String

    init() {
        path = "/tmp/forebay-system-\(SystemRandom().token())"
        mkdir(path, 0o755)
    }

    deinit {
        let files = LocalFileSystem()
        func clear(_ directory: String) throws {
            for entry in try files.entries(of: directory) {
                let child = "\(directory)/\(entry.name)"
                if entry.isDirectory { try clear(child) } else { try files.remove(child) }
            }
            try files.removeDirectory(directory)
        }
        do { try clear(path) } catch { Issue.record("\(error)") }
    }
}

@Suite struct LocalFileSystemTests {
    let files = LocalFileSystem()
    let folder = TemporaryFolder()

    @Test func writesReadsAndMeasures() throws {
        let path = folder.path + "/a"
        let file = try files.open(path, .create)
        try files.write([1, 2, 3, 4].span, to: file, at: 2)
        #expect(try files.status(of: file).size == 6)
        #expect(try files.read(file, at: 0, count: 100) == [0, 0, 1, 2, 3, 4])
        #expect(try files.read(file, at: 3, count: 2) == [2, 3])
        #expect(try files.read(file, at: 6, count: 2) == [])
        try files.truncate(file, to: 3)
        #expect(try files.contents(at: path) == [0, 0, 1])
        try files.allocate(file, size: 1 << 20)
        #expect(try files.status(of: file).size == 3, "reserving blocks is not growing")
    }

    @Test func aCountBoundsTheReadEvenIfMoreIsThere() throws {
        let file = try files.open(folder.path + "/a", .create)
        try files.write([1, 2, 3, 4].span, to: file, at: 0)
        let bytes = try [UInt8](capacity: 10) { (buffer: inout OutputSpan<UInt8>) throws(FileError) in
            buffer.append(9)
            #expect(try files.read(file, at: 1, count: 2, into: &buffer) == 2)
        }
        #expect(bytes == [9, 2, 3])
    }

    @Test func createNeverTakesOver() throws {
        _ = try files.open(folder.path + "/a", .create)
        let error = try #require(throws: FileError.self) { try files.open(folder.path + "/a", .create) }
        #expect(error.isAlreadyThere)
        #expect(error.description.contains("open") && error.description.contains("/a"))
    }

    @Test func whatIsMissingIsNoError() throws {
        #expect(try files.status(at: folder.path + "/none") == nil)
        #expect(try files.contents(at: folder.path + "/none") == nil)
        #expect(try files.remove(folder.path + "/none") == false)
        #expect(try files.removeDirectory(folder.path + "/none") == false)
        #expect(try files.entries(of: folder.path + "/none") == [])
        #expect(throws: FileError.self) { try files.open(folder.path + "/none", .read) }
    }

    /// Opening a pipe waits for its other end, unless it is told not to.
    @Test(.timeLimit(.minutes(20)), arguments: [OpenMode.readOwn, .readWrite])
    func aFileOfOurOwnIsNothingElse(_ mode: OpenMode) throws {
        let file = folder.path + "/file"
        try files.write([1, 2].span, to: files.open(file, .create), at: 0)
        #expect(try files.openRegular(file, mode).status.size == 2)
        try #require(mkfifo(folder.path + "/pipe", 0o600) == 0)
        try #require(mknod(folder.path + "/socket", S_IFSOCK | 0o600, 0) == 0)
        try #require(symlink(file, folder.path + "/link") == 0)
        try files.createDirectory(folder.path + "/directory")
        for name in ["pipe", "socket", "link", "directory"] {
            let error = try #require(throws: FileError.self) { try files.openRegular("\(folder.path)/\(name)", mode) }
            #expect(error.isReplaced && !error.isNotFound, "\(error)")
            #expect(error.description.contains("\(folder.path)/\(name): "))
        }
        #expect(try files.contents(at: folder.path + "/link") == [1, 2], "others' files may be links")
        let missing = #expect(throws: FileError.self) { try files.openRegular(folder.path + "/none", mode) }
        #expect(missing?.isNotFound == true)
    }

    @Test func directoriesAreMadeWithTheirParents() throws {
        let deep = folder.path + "/x/y/z"
        try files.createDirectory(deep)
        try files.createDirectory(deep)
        #expect(try files.status(at: deep)?.isDirectory == true)
        #expect(try files.removeDirectory(folder.path + "/x") == false, "it is not empty")
        _ = try files.open(folder.path + "/file", .create)
        #expect(throws: FileError.self) { try files.createDirectory(folder.path + "/file") }
        #expect(throws: FileError.self) { try files.createDirectory(folder.path + "/file/below") }
        // Bug: where none can be made in a directory that is there, its stack ended the program.
        #expect(throws: FileError.self) { try files.createDirectory("/proc/x/y") }
    }

    @Test func publishReplacesAtomically() throws {
        let path = folder.path + "/target"
        for content: [UInt8] in [[1], [2, 3]] {
            let file = try files.open(path + ".tmp", .create)
            try files.write(content.span, to: file, at: 0)
            try files.publish(file, from: path + ".tmp", as: path)
            #expect(try files.contents(at: path) == content)
        }
        #expect(try files.entries(of: folder.path) == [DirectoryEntry(name: "target", isDirectory: false)])
    }

    @Test func fullVolumeIsToldApart() {
        #expect(FileError(operation: "write", path: "x", code: ENOSPC).isNoSpace)
        #expect(!FileError(operation: "write", path: "x", code: EIO).isNoSpace)
    }

    @Test func parents() {
        #expect(parentDirectory(of: "/a/b") == "/a")
        #expect(parentDirectory(of: "/a") == "/")
        #expect(parentDirectory(of: "a") == ".")
    }
}

@Suite struct FileWriterTests {
    let files = LocalFileSystem()
    let folder = TemporaryFolder()

    @Test(arguments: [1, 7, 64, 100, 129, 1000])
    func anyPiecesMakeTheSameFile(_ pieceSize: Int) throws {
        let content = (0..<1000).map { UInt8(truncatingIfNeeded: $0) }
        let file = try files.open(folder.path + "/\(pieceSize)", .create)
        var writer = FileWriter(WriteWatch(file, in: files), capacity: 64)
        for start in stride(from: 0, to: content.count, by: pieceSize) {
            try writer.append(content[start..<min(start + pieceSize, content.count)].span)
            #expect(writer.written % 64 == 0, "only whole aligned pieces are written")
        }
        #expect(writer.offset == 1000)
        try writer.flush()
        #expect(writer.written == 1000)
        #expect(try files.contents(at: file.path) == content)
    }

    @Test func continuesWhereItIsTold() throws {
        let file = try files.open(folder.path + "/a", .create)
        try files.write([1, 2, 3].span, to: file, at: 0)
        var writer = FileWriter(WriteWatch(file, in: files), at: 2)
        try writer.append([7, 8].span)
        try writer.flush()
        #expect(try files.contents(at: file.path) == [1, 2, 7, 8])
    }
}

@Suite struct ProcessLockTests {
    let folder = TemporaryFolder()

    @Test func namesTheHolder() throws {
        let path = folder.path + "/lock"
        let lock = try ProcessLock(path: path)
        withExtendedLifetime(lock) {
            let error = #expect(throws: ProcessLock.Failure.self) { try ProcessLock(path: path) }
            guard case .held(let held)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(held.processID == getpid())
        }
    }

    @Test func isFreeAfterTheHolderIsGone() throws {
        let path = folder.path + "/lock"
        _ = try ProcessLock(path: path)
        _ = try ProcessLock(path: path)
    }
}

@Suite struct TimeTests {
    @Test func writesTheThreeForms() {
        let time = WallTime(seconds: 1_776_932_130, nanoseconds: 120_000_000)
        #expect(time.rfc3339 == "2026-04-23T08:15:30.12Z")
        #expect(WallTime(seconds: 0).rfc3339 == "1970-01-01T00:00:00Z")
        #expect(time.iso8601Basic == "20260423T081530Z")
        #expect(time.httpDate == "Thu, 23 Apr 2026 08:15:30 GMT")
    }

    @Test func readsHTTPDates() {
        #expect(WallTime(httpDate: "Thu, 23 Apr 2026 08:15:30 GMT") == WallTime(seconds: 1_776_932_130))
        for text in ["", "yesterday", "Thu, 23 Apr 2026 08:15:30 GMT+1", "2026-04-23T08:15:30Z"] {
            #expect(WallTime(httpDate: text) == nil)
        }
    }

    @Test func tokensAreLongAndDiffer() {
        let tokens = Set((0..<100).map { _ in SystemRandom().token() })
        #expect(tokens.count == 100)
        #expect(tokens.allSatisfy { $0.count == 32 && $0.allSatisfy(\.isHexDigit) })
    }
}
