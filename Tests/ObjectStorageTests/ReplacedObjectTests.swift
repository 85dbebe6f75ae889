import Glibc
import ObjectStorage
import System
import Testing

private let old = Array("the old content".utf8)
private let new = pattern(70_000)

/// What lies in the place of an object's file and is none: opening a pipe waits for its other end.
@Suite(.timeLimit(.minutes(20))) struct ReplacedObjectTests {
    private func with(_ kind: mode_t, _ body: (DirectoryStore) throws -> Void) throws {
        try withTemporaryDirectory { root in
            let store = try DirectoryStore(root: root)
            try store.put(key("a/b"), .bytes(old))
            try store.put(key("a/c"), .bytes(old))
            try LocalFileSystem().remove("\(root)/a/b")
            try #require(mknod("\(root)/a/b", kind | 0o600, 0) == 0)
            try body(store)
        }
    }

    @Test(arguments: [S_IFIFO, S_IFSOCK])
    func isAnErrorAtOnce(_ kind: mode_t) throws {
        try with(kind) { store in
            for operation: () throws -> Void in [
                { _ = try store.head(key("a/b")) }, { _ = try store.contents(of: key("a/b"), limitBytes: 100) },
            ] {
                guard case .file(let error) = failureKind(operation), error.isReplaced else {
                    Issue.record("it was taken for an object, or for none")
                    continue
                }
            }
        }
    }

    @Test(arguments: [S_IFIFO, S_IFSOCK])
    func isNotListedAndCanBeReplaced(_ kind: mode_t) throws {
        try with(kind) { store in
            let page = try store.list(prefix: "", delimiter: nil, after: nil, continuation: nil, limit: 10)
            #expect(page.objects.map(\.key) == [key("a/c")])
            try store.put(key("a/b"), .bytes(new))
            #expect(try store.contents(of: key("a/b"), limitBytes: new.count)?.bytes == new)
        }
    }
}
