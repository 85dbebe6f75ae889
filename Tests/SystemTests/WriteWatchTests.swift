import Glibc
import System
import TestDoubles
import Testing
import Threading

@Suite struct WriteWatchTests {
    let folder = TemporaryFolder()

    /// Bug: what came while a write of ours was under way went unnoticed, also where the file had become shorter.
    @Test func aFileThatIsCutWhileItIsWrittenToIsSuspect() throws {
        let (files, gate) = (FaultyFileSystem(), Gate())
        let file = try files.open(folder.path + "/a", .create)
        let watch = WriteWatch(file, in: files)
        try watch.write([1, 2, 3, 4].span, at: 0)
        #expect(try !watch.isSuspect())
        files.beforeCalls { operation, _ in if operation == "pwrite" { gate.pass() } }
        let isWritten = Monitor(false)
        spawnThread(name: "writer") {
            try? watch.write([1].span, at: 0)
            isWritten.update { $0 = true }
        }
        gate.waitForArrivals()
        #expect(try !watch.isSuspect())
        try LocalFileSystem().truncate(file, to: 2)
        gate.open()
        _ = isWritten.wait { $0 ? true : nil }
        #expect(try watch.isSuspect())
        #expect(try !watch.proves { () throws(FileError) in false })
        #expect(try watch.isSuspect())
        try LocalFileSystem().truncate(file, to: 4)
        #expect(try watch.proves { () throws(FileError) in true })
        #expect(try !watch.isSuspect())
    }

    /// Bug: `truncate(2)` opens nothing: what was cut and made as long again during a write of ours went unnoticed, full of zeros.
    @Test func aCutByNameDuringAWriteOfOursIsNoticed() throws {
        let files = FaultyFileSystem()
        let watch = try watched(files)
        try watch.write([UInt8](repeating: 1, count: 100_000).span, at: 0)
        #expect(try !watch.isSuspect())
        files.beforeCalls { [path] operation, _ in
            if operation == "pwrite" { _ = (truncate(path, 0), truncate(path, 100_000)) }
        }
        try watch.write([1, 2].span, at: 100_000)
        #expect(try watch.isSuspect())
    }

    /// Bug: where a volume gives no room ahead, ext4 seems to have lost some for a moment, and fills were hashed again, or broken off by a disk error.
    @Test func whatIsJustWrittenOutIsNotCut() throws {
        let files = FaultyFileSystem()
        let watch = try watched(files)
        try watch.write([UInt8](repeating: 1, count: 100_000).span, at: 0)
        files.beforeCalls { operation, _ in if operation == "pwrite" { files.hideBlocks(from: 1) } }
        try watch.write([1, 2].span, at: 100_000)
        #expect(try !watch.isSuspect())
    }

    /// Bug: what another process appended stayed, and was served.
    @Test func aFileThatIsTooLongIsSuspectAtRest() throws {
        let files = FaultyFileSystem()
        let watch = try watched(files)
        files.beforeCalls { [path] operation, _ in if operation == "pwrite" { truncate(path, 50) } }
        try watch.write([1, 2].span, at: 4)
        files.beforeCalls { _, _ in }
        watch.rest()
        #expect(try watch.isSuspect())
        #expect(try !watch.proves { () throws(FileError) in true }, "what is right is not all that there is")
    }

    @Test func changesOfOursAreNone() throws {
        let files = LocalFileSystem()
        let file = try files.open(folder.path + "/a", .create)
        let watch = WriteWatch(file, in: files)
        try watch.write([1, 2, 3, 4].span, at: 0)
        try watch.resize(to: 2)
        #expect(try !watch.isSuspect())
    }

    /// Bug: what another process wrote while a write of ours was under way went unnoticed.
    @Test func whatOthersWriteDuringAWriteOfOursIsNoticed() throws {
        let files = FaultyFileSystem()
        let watch = try watched(files)
        files.beforeCalls { [path] operation, _ in if operation == "pwrite" { try? writeAsOthers(path) } }
        try watch.write([1, 2].span, at: 4)
        #expect(try watch.isSuspect())
    }

    @Test func whoHasOpenedItBeforeOrHasItOpenStillMayWriteAtAnyTime() throws {
        let files = LocalFileSystem()
        let file = try files.open(path, .create)
        var other: File? = try files.open(path, .readWrite)
        let watch = WriteWatch(file, in: files)
        #expect(try watch.isSuspect())
        #expect(try watch.proves { () throws(FileError) in true })
        #expect(try !watch.isSuspect(), "nothing is written")
        try watch.write([1].span, at: 0)
        #expect(try watch.isSuspect())
        withExtendedLifetime(other) { other = nil }
        #expect(try watch.proves { () throws(FileError) in true })
        try watch.write([1].span, at: 0)
        #expect(try !watch.isSuspect())
    }

    @Test func atRestOnlyWritesCount() throws {
        let files = LocalFileSystem()
        let watch = try watched(files)
        #expect(try !watch.isSuspect())
        watch.rest()
        _ = try files.contents(at: path)
        for mode in [0o600, 0o640] {
            chmod(path, mode_t(mode))
            #expect(try !watch.isSuspect())
        }
        #expect(try watch.proves { () throws(FileError) in chmod(path, 0o644) == 0 }, "read once")
        try writeAsOthers(path)
        #expect(watch.isOverwritten())
        #expect(try watch.isSuspect())
        #expect(try !watch.proves { () throws(FileError) in (try? writeAsOthers(path)) != nil })
        #expect(try watch.isSuspect())
    }

    /// Each gets its own news, also of a file that another one watches.
    @Test func newsGoToThoseWhomTheyConcern() throws {
        let files = LocalFileSystem()
        let first = try watched(files)
        var second: WriteWatch? = WriteWatch(first.file, in: files)
        let others = try (0..<3).map { try WriteWatch(files.open("\(path)\($0)", .create), in: files) }
        #expect(try !first.isSuspect() && second?.isSuspect() == false)
        second = nil
        try writeAsOthers(path)
        #expect(try first.isSuspect())
        for other in others { #expect(try !other.isSuspect()) }
    }

    @Test func whatCannotBeObservedIsWatchedByItsTimes() throws {
        let files = FaultyFileSystem()
        files.failCall(1, of: ["inotify_add_watch"])
        let watch = try watched(files)
        #expect(!watch.isExact)
        #expect(try !watch.isSuspect())
        try writeAsOthers(path)
        #expect(try watch.isSuspect())
    }

    private var path: String { folder.path + "/a" }

    private func watched(_ files: any FileSystem) throws -> WriteWatch {
        let watch = WriteWatch(try files.open(path, .create), in: files)
        try watch.write([1, 2, 3, 4].span, at: 0)
        return watch
    }
}

/// Until the time of the last change is another.
private func writeAsOthers(_ path: String) throws {
    let files = LocalFileSystem()
    let file = try files.open(path, .readWrite)
    let before = try files.status(of: file)
    repeat { try files.write([9].span, to: file, at: 0) } while try files.status(of: file) == before
}
