import Glibc
import ObjectStorage
import Synchronization
import System
import Testing
import Threading

private let old = Array("the old content".utf8)
private let new = pattern(700_000)

@Suite struct DirectoryStoreCrashTests {
    /// What is acknowledged survives a power cut only in this order.
    @Test func theOrderIsDurable() throws {
        try withTemporaryDirectory { root in
            let fileSystem = FailingFileSystem()
            let store = try DirectoryStore(root: root, fileSystem: fileSystem)
            func changes(_ body: () throws -> Void) rethrows -> [String] {
                let before = fileSystem.log.count
                try body()
                let operations = ["fsetxattr", "pwrite", "futimens", "fdatasync", "rename", "unlink", "fsync", "rmdir"]
                return fileSystem.log[before...].compactMap { call in
                    let operation = operations.first { call.hasPrefix("\($0) ") }
                    return ["rename", "unlink", "fsync"].contains(operation) ? call : operation
                }
            }
            let put = try changes { try store.put(key("d/a"), .bytes(old), contentType: "text/plain") }
            #expect(put == ["fsetxattr", "pwrite", "futimens", "fdatasync", "rename a", "fsync d"])
            let delete = try changes { try store.delete(key("d/a")) }
            #expect(delete == ["unlink a", "fsync d", "rmdir"])
        }
    }

    /// The n-th call fails: the operation says so, and there is the old object or the new one, whole.
    @Test(arguments: [EIO, ENOSPC], [false, true])
    func anOverwriteIsAllOrNothing(_ code: Int32, _ isFinal: Bool) throws {
        try withTemporaryDirectory { root in
            let fileSystem = FailingFileSystem(code: code, isFinal: isFinal)
            var number = 0
            while true {
                number += 1
                try DirectoryStore(root: root).put(key("a/b"), .bytes(old), contentType: "type/old")
                let store = try DirectoryStore(root: root, fileSystem: fileSystem)
                fileSystem.fail(at: number)
                let kind = failureKind { try store.put(key("a/b"), .bytes(new), contentType: "type/new") }
                let hasFailed = fileSystem.hasFailed
                fileSystem.fail(at: nil)
                let found = try #require(try DirectoryStore(root: root).contents(of: key("a/b"), limitBytes: 1 << 20))
                #expect(found.bytes == old || found.bytes == new)
                #expect(found.info.contentType == (found.bytes == old ? "type/old" : "type/new"))
                #expect(try files(root) == ["a/", "a/b"])
                if kind == nil {
                    #expect(found.bytes == new)
                    // Only removing a file that is not needed any more may fail in silence.
                    if !hasFailed { break }
                } else if case .noSpace = kind {
                    #expect(code == ENOSPC)
                }
            }
            #expect(number > 8, "the calls of one put")
        }
    }

    @Test func aNewObjectIsThereOrNot() throws {
        try withTemporaryDirectory { root in
            let fileSystem = FailingFileSystem(isFinal: true)
            for number in 1... {
                let store = try DirectoryStore(root: root, fileSystem: fileSystem)
                fileSystem.fail(at: number)
                let kind = failureKind {
                    _ = try store.put(key("a/b/c"), .bytes(new), contentType: nil, condition: .ifAbsent)
                }
                let hasFailed = fileSystem.hasFailed
                fileSystem.fail(at: nil)
                let after = try DirectoryStore(root: root)
                let found = try after.contents(of: key("a/b/c"), limitBytes: 1 << 20)
                #expect(found == nil || found?.bytes == new)
                #expect(kind != nil || found != nil, "what was acknowledged is there")
                // The same request finishes what was begun.
                try after.put(key("a/b/c"), .bytes(new))
                try after.delete(key("a/b/c"))
                #expect(try files(root) == [])
                if !hasFailed { break }
            }
        }
    }

    @Test func aDeleteCanBeRepeated() throws {
        try withTemporaryDirectory { root in
            let fileSystem = FailingFileSystem(isFinal: true)
            for number in 1... {
                try DirectoryStore(root: root).put(key("a/b/c"), .bytes(new))
                let store = try DirectoryStore(root: root, fileSystem: fileSystem)
                fileSystem.fail(at: number)
                let kind = failureKind { try store.delete(key("a/b/c")) }
                let hasFailed = fileSystem.hasFailed
                fileSystem.fail(at: nil)
                let after = try DirectoryStore(root: root)
                let found = try after.contents(of: key("a/b/c"), limitBytes: 1 << 20)
                #expect(kind != nil ? found == nil || found?.bytes == new : found == nil)
                try after.delete(key("a/b/c"))
                #expect(try after.head(key("a/b/c")) == nil)
                if !hasFailed { break }
            }
        }
    }

    /// A crash leaves a temporary file; a later start removes it, but not one that is being written.
    @Test func leftoversAreRemovedLater() throws {
        struct Later: TimeSource {
            let seconds: Int64
            func monotonicNanoseconds() -> UInt64 { 0 }
            func wallTime() -> WallTime { WallTime(seconds: SystemTime().wallTime().seconds + seconds) }
        }
        try withTemporaryDirectory { root in
            let fileSystem = FailingFileSystem(isFinal: true)
            let store = try DirectoryStore(root: root, fileSystem: fileSystem)
            fileSystem.fail(at: 6)
            #expect(throws: StoreError.self) { try store.put(key("a"), .bytes(new)) }
            #expect(try temporaryFiles(root).count == 1)
            _ = try DirectoryStore(root: root, time: Later(seconds: 3_000))
            #expect(try temporaryFiles(root).count == 1)
            _ = try DirectoryStore(root: root, time: Later(seconds: 4_000))
            #expect(try temporaryFiles(root).isEmpty)
        }
    }

    @Test func errorsKeepTheKernelsReason() throws {
        try withTemporaryDirectory { root in
            let fileSystem = FailingFileSystem(code: EACCES)
            let store = try DirectoryStore(root: root, fileSystem: fileSystem)
            fileSystem.fail(at: 1)
            guard case .file(let error) = failureKind({ _ = try store.head(key("a")) }) else {
                Issue.record("no error")
                return
            }
            #expect(error.code == EACCES && error.operation == "open" && error.path.hasSuffix("/a"))
        }
    }
}
