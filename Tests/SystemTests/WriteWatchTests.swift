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

    @Test func changesOfOursAreNone() throws {
        let files = LocalFileSystem()
        let file = try files.open(folder.path + "/a", .create)
        let watch = WriteWatch(file, in: files)
        try watch.write([1, 2, 3, 4].span, at: 0)
        try watch.change(to: 2) { () throws(FileError) in try files.truncate(file, to: 2) }
        #expect(try !watch.isSuspect())
    }
}
