import Glibc
import Hashing
import OCI
import ObjectStorage
import Synchronization
import System
import Testing
import Threading

private let old = Array("the old content".utf8)
private let new = pattern(700_000)

@Suite struct DirectoryStoreTests {
    /// Its volume is not mounted any more: that says nothing of what there is.
    @Test func aDirectoryThatIsGoneIsNotEmpty() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: "\(root)/origin")
            let key = try ObjectKey("a/b")
            #expect(try store.head(key) == nil)
            try LocalFileSystem().rename("\(root)/origin", to: "\(root)/elsewhere")
            try expectUnreachable { _ = try store.head(key) }
        }
    }

    /// Bug: a listing of one that was gone, or of the empty place where it had been mounted, was empty, and the store counted as up.
    @Test(arguments: [false, true])
    func aDirectoryThatIsGoneIsNotListed(leavesItsPlace: Bool) throws {
        try withTemporaryDirectory { root in
            let (path, files) = ("\(root)/origin", LocalFileSystem())
            let store = try DirectoryStore(root: path)
            try store.put(key("a/b"), .bytes(old))
            let upload = try store.beginUpload(key("a/c"), contentType: nil)
            try store.check()
            #expect(!store.availability.isDown && store.health.outages == 0)
            try files.rename(path, to: "\(root)/elsewhere")
            if leavesItsPlace { try files.createDirectory(path) }
            for prefix in ["", "a/"] { try expectUnreachable { _ = try list(store, prefix) } }
            // Bug: a delete there succeeded, and its object was back with the volume.
            try expectUnreachable { try store.delete(key("a/b")) }
            // Bug: these said that there was no such file, or no such upload.
            try expectUnreachable { try store.put(key("a/c"), .bytes(old)) }
            try expectUnreachable { _ = try store.beginUpload(key("a/c"), contentType: nil) }
            try expectUnreachable { _ = try store.putPart(1, at: 0, of: upload, .bytes(old)) }
            try expectUnreachable { try store.abortUpload(upload) }
            for _ in 0..<2 { try expectUnreachable { try store.check() } }
            #expect(store.availability.isDown && store.health.outages == 1)
            if leavesItsPlace { #expect(rmdir(path) == 0) }
            try files.rename("\(root)/elsewhere", to: path)
            try store.check()
            #expect(!store.availability.isDown && store.health.outages == 1)
            #expect(try list(store, "a/").count == 1)
            #expect(try list(store, "none/").isEmpty)
        }
    }

    private func list(_ store: DirectoryStore, _ prefix: String) throws -> [ListedObject] {
        try store.list(prefix: prefix, delimiter: nil, after: nil, continuation: nil, limit: 10).objects
    }

    private func expectUnreachable(_ body: () throws -> Void) throws {
        let error = #expect(throws: StoreError.self) { try body() }
        guard case .unreachable? = error?.kind else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect("\(try #require(error))".contains("is gone: is the volume mounted?"))
    }

    @Test func anObjectIsAFileOfItsName() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root)
            try store.put(key("blobs/sha256/abc"), .bytes(old), contentType: "application/octet-stream")
            #expect(try LocalFileSystem().contents(at: "\(root)/blobs/sha256/abc") == old)
            #expect(try files(root) == ["blobs/", "blobs/sha256/", "blobs/sha256/abc"])
            #expect(try temporaryFiles(root).isEmpty)
            #expect(store.description == "file://\(try LocalFileSystem().resolve(root))")
        }
    }

    @Test func filesOfOthersAreObjects() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root)
            let file = try LocalFileSystem().open("\(root)/copied", .create)
            try LocalFileSystem().write(old.span, to: file, at: 0)
            #expect(try store.contents(of: key("copied"), limitBytes: 100)?.bytes == old)
            #expect(try store.head(key("copied"))?.contentType == nil)
        }
    }

    @Test func deletingRemovesEmptyDirectories() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root)
            for name in ["a/b/c/d", "a/b/e", "f/g"] { try store.put(key(name), .bytes(old)) }
            try store.delete(key("a/b/c/d"))
            #expect(try files(root) == ["a/", "a/b/", "a/b/e", "f/", "f/g"])
            try store.delete([key("a/b/e"), key("f/g"), key("f/none")])
            #expect(try files(root) == [])
            #expect(try LocalFileSystem().status(at: root) != nil)
        }
    }

    @Test func aNameIsAnObjectOrADirectory() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root)
            try store.put(key("a/b"), .bytes(old))
            for name in ["a", "a/b/c", "a/b/c/d"] {
                let kind = failureKind { try store.put(key(name), .bytes(new)) }
                guard case .conflict = kind else {
                    Issue.record("\(name): \(String(describing: kind))")
                    continue
                }
                #expect(try store.head(key(name)) == nil)
                try store.delete(key(name))
            }
            #expect(try store.contents(of: key("a/b"), limitBytes: 100)?.bytes == old)
            #expect(try temporaryFiles(root).isEmpty && files(root) == ["a/", "a/b"])
        }
    }

    @Test func itsOwnFolderIsOutOfReach() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root)
            for name in [".forebay", ".forebay/lock", ".forebay/tmp/x"] {
                #expect(throws: StoreError.self) { try store.put(key(name), .bytes(old)) }
                #expect(try store.head(key(name)) == nil)
                try store.delete(key(name))
            }
            #expect(try LocalFileSystem().status(at: "\(root)/.forebay/lock") != nil)
            let page = try store.list(prefix: "", delimiter: nil, after: nil, continuation: nil, limit: 10)
            #expect(page == ListPage())
            #expect(
                try store.list(prefix: ".forebay/", delimiter: nil, after: nil, continuation: nil, limit: 10) == page
            )
            try store.put(key("a/.forebay/b"), .bytes(old))
            #expect(try store.head(key("a/.forebay/b")) != nil, "only the first segment is reserved")
        }
    }

    @Test func longNamesAreNotThere() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root)
            let long = key("a/" + String(repeating: "n", count: 256))
            #expect(try store.head(long) == nil)
            try store.delete(long)
            guard case .unsupported = failureKind({ try store.put(long, .bytes(old)) }) else {
                Issue.record("stored")
                return
            }
        }
    }

    @Test func theDeepestKeyWorksOnASmallStack() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root)
            let deep = key(String(repeating: "d/", count: 511) + "e")
            let listed = try concurrently(1) { _ in
                try store.put(deep, .bytes(old))
                let page = try store.list(prefix: "", delimiter: nil, after: nil, continuation: nil, limit: 10)
                try store.delete(deep)
                return page.objects.map(\.key)
            }
            #expect(listed == [[deep]])
            #expect(try files(root) == [])
        }
    }

    @Test func linksAreNotFollowed() throws {
        try withTemporaryDirectory { outer in
            let root = "\(outer)/root"
            let outside = "\(outer)/outside"
            try LocalFileSystem().createDirectory("\(outside)/sub")
            let secret = try LocalFileSystem().open("\(outside)/secret", .create)
            try LocalFileSystem().write(old.span, to: secret, at: 0)
            let store = try DirectoryStore(root: root)
            #expect(symlink(outside, "\(root)/dir") == 0 && symlink("\(outside)/secret", "\(root)/file") == 0)

            for name in ["dir/secret", "file"] {
                guard case .denied = failureKind({ _ = try store.contents(of: key(name), limitBytes: 100) }),
                    case .denied = failureKind({ _ = try store.head(key(name)) })
                else {
                    Issue.record("\(name) was read")
                    continue
                }
            }
            for name in ["dir/new", "dir/sub/new", "dir/a/b/new"] {
                guard case .denied = failureKind({ try store.put(key(name), .bytes(new)) }) else {
                    Issue.record("\(name) was written")
                    continue
                }
            }
            #expect(throws: StoreError.self) { try store.delete(key("dir/secret")) }
            let page = try store.list(prefix: "", delimiter: nil, after: nil, continuation: nil, limit: 10)
            #expect(page == ListPage())
            #expect(try store.list(prefix: "dir/", delimiter: nil, after: nil, continuation: nil, limit: 10) == page)
            #expect(try files(outside) == ["secret", "sub/"])

            // What replaces a link is the object, and what it led to stays.
            try store.put(key("file"), .bytes(new))
            #expect(try store.contents(of: key("file"), limitBytes: new.count)?.bytes == new)
            #expect(try LocalFileSystem().contents(at: "\(outside)/secret") == old)
        }
    }

    @Test func theRootItselfMayBeALink() throws {
        try withTemporaryDirectory { outer in
            try LocalFileSystem().createDirectory("\(outer)/real")
            #expect(symlink("\(outer)/real", "\(outer)/link") == 0)
            let store = try DirectoryStore(root: "\(outer)/link")
            try store.put(key("a/b"), .bytes(old))
            #expect(try store.contents(of: key("a/b"), limitBytes: 100)?.bytes == old)
        }
    }

    @Test func aRootThatHasGoneIsNotMadeAnew() throws {
        try withTemporaryDirectory { outer in
            let root = "\(outer)/volume"
            let store = try DirectoryStore(root: root)
            try LocalFileSystem().rename(root, to: "\(outer)/elsewhere")
            try expectUnreachable { try store.put(key("a/b"), .bytes(old)) }
            try expectUnreachable { try store.check() }
            #expect(try LocalFileSystem().status(at: root) == nil)
        }
    }

    @Test func aVolumeWithoutAttributesKeepsNoTypes() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root, fileSystem: FailingFileSystem(hasAttributes: false))
            #expect(!store.capabilities.keepsContentType)
            try store.put(key("a"), .bytes(old), contentType: "text/plain")
            #expect(try store.contents(of: key("a"), limitBytes: 100)?.bytes == old)
            #expect(try store.head(key("a"))?.contentType == nil)
            #expect(try DirectoryStore(root: root).capabilities.keepsContentType)
        }
    }

    @Test func twoStoresOnOneDirectoryCompareAndSwap() throws {
        try withTemporaryDirectory { root in
            let stores = try (0..<4).map { _ in try DirectoryStore(root: root) }
            try stores[0].put(key("counter"), .bytes([0]))
            let done = try concurrently(4) { index -> Int? in
                var done = 0
                while done < 20 {
                    guard let (info, bytes) = try stores[index].contents(of: key("counter"), limitBytes: 1) else {
                        return nil
                    }
                    let outcome = try stores[index].put(
                        key("counter"),
                        .bytes([bytes[0] + 1]),
                        contentType: nil,
                        condition: .ifMatch(info.etag ?? "")
                    )
                    if outcome != .conditionFailed { done += 1 }
                }
                return done
            }
            #expect(done == [20, 20, 20, 20])
            #expect(try stores[0].contents(of: key("counter"), limitBytes: 1)?.bytes == [80])
        }
    }

    /// The race itself is too narrow to be met by chance.
    @Test func namesChangeUnderTheLock() throws {
        try withTemporaryDirectory { root in
            let changes = Mutex(0)
            let fileSystem = FailingFileSystem(beforeChange: {
                changes.withLock { $0 += 1 }
                let descriptor = open("\(root)/.forebay/lock", O_RDWR)
                defer { close(descriptor) }
                #expect(flock(descriptor, LOCK_EX | LOCK_NB) != 0, "the lock was free")
            })
            let store = try DirectoryStore(root: root, fileSystem: fileSystem)
            try store.put(key("a"), .bytes(old))
            try store.delete(key("a"))
            #expect(changes.withLock { $0 } == 2)
        }
    }

    /// Not from the kernel, whose time stamps may be so coarse that two writes have the same.
    @Test func theTimeOfAnObjectIsExact() throws {
        struct Fixed: TimeSource {
            func monotonicNanoseconds() -> UInt64 { 0 }
            func wallTime() -> WallTime { WallTime(seconds: 1_700_000_000, nanoseconds: 123_456_789) }
        }
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root, time: Fixed())
            try store.put(key("a"), .bytes(old))
            #expect(try store.head(key("a"))?.lastModified == Fixed().wallTime())
        }
    }

    @Test func aTagNeverComesBack() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root)
            var tags: Set<String> = []
            for _ in 0..<300 {
                // Inodes are reused at once, and the kernel's own time stamps are coarse.
                guard case .stored(let tag?) = try store.put(key("a"), .bytes([1])) else { continue }
                tags.insert(tag)
                try store.delete(key("a"))
            }
            #expect(tags.count == 300)
        }
    }

    @Test func aFileThatShrinksIsNoCleanEnd() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root)
            try store.put(key("a"), .bytes(new))
            let kind = failureKind {
                _ = try store.get(
                    key("a"),
                    range: nil,
                    ifNoneMatch: nil,
                    begin: { _ in
                        let file = try LocalFileSystem().open("\(root)/a", .readWrite)
                        try LocalFileSystem().truncate(file, to: 300_000)
                    },
                    receive: { _ in }
                )
            }
            guard case .damagedBody = kind else {
                Issue.record("\(String(describing: kind))")
                return
            }
        }
    }

    /// Bug: it took what somebody wrote over the file meanwhile for what its digest says.
    @Test func aFileThatIsNotWhatItsDigestSaysIsNotStored() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root)
            let file = try LocalFileSystem().open(root + "/source", .create)
            try LocalFileSystem().write(new.span, to: file, at: 0)
            let length = Int64(new.count)
            let kind = failureKind {
                try store.put(key("a"), .file(file, offset: 0, length: length, digest: Digest(of: [1])))
            }
            guard case .damagedBody = kind else {
                Issue.record("\(String(describing: kind))")
                return
            }
            #expect(try store.head(key("a")) == nil)
            try store.put(key("a"), .file(file, offset: 0, length: length, digest: Digest(of: new)))
        }
    }

    @Test func aReaderKeepsTheVersionItOpened() throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root)
            try store.put(key("a"), .bytes(new))
            var read = 0
            let outcome = try store.get(
                key("a"),
                range: nil,
                ifNoneMatch: nil,
                begin: { _ in try store.delete(key("a")) },
                receive: { read += $0.count }
            )
            #expect(read == new.count && outcome != .notFound)
        }
    }

    /// A page reads its directory once, and looks at the files that are on it and at no others.
    @Test func aLargeDirectoryIsListedInFewCalls() throws {
        try withTemporaryDirectory { root in
            let fileSystem = FailingFileSystem()
            let store = try DirectoryStore(root: root, fileSystem: fileSystem)
            for name in ["t", "t/below", "u"] { try LocalFileSystem().createDirectory("\(root)/\(name)") }
            for index in 0..<5_000 { _ = try LocalFileSystem().open("\(root)/t/\(index)", .create) }
            let before = fileSystem.calls
            let page = try store.list(prefix: "t/4", delimiter: "/", after: "t/4990", continuation: nil, limit: 5)
            #expect(page.objects.map(\.key.description) == (4_991...4_995).map { "t/\($0)" })
            #expect(fileSystem.calls - before <= 8)
            let all = try store.list(prefix: "t/", delimiter: nil, after: nil, continuation: nil, limit: 10_000)
            #expect(all.objects.count == 5_000 && all.continuation == nil)
            #expect(zip(all.objects, all.objects.dropFirst()).allSatisfy { $0.key < $1.key })
        }
    }
}
