import Foundation
import Glibc
import Testing

@testable import System

@Suite("A place for a result")
struct ResultFileTests {
    private let folder = NSTemporaryDirectory() + "result-\(UUID().uuidString)"
    private var path: String { folder + "/result" }

    init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }

    private func write(_ text: String, to path: String) throws {
        try ResultFile(path).check()
        try ResultFile(path).write(Array(text.utf8))
    }

    private func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: folder).sorted() }

    @Test func aFileIsReplacedAsAWhole() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try write("old and longer", to: path)
        let old = try #require(FileHandle(forReadingAtPath: path))
        try write("new", to: path)
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "new")
        #expect(try old.readToEnd() == Data("old and longer".utf8), "who reads the old one is not disturbed")
        #expect(try names() == ["result"], "what was written beside it is gone")
    }

    /// Bug: the link was replaced, and what it led to stayed as it was.
    @Test func aLinkIsFollowed() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try write("old", to: path)
        symlink("result", folder + "/link")
        try write("new", to: folder + "/link")
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "new")
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: folder + "/link") == "result")
    }

    /// Bug: devices, named pipes and those of `>(command)` were unlinked, and who read them got nothing.
    @Test func aPipeIsWrittenInto() throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        mkfifo(path, 0o600)
        let reader = open(path, O_RDONLY | O_NONBLOCK)
        defer { close(reader) }
        try write("through it", to: path)
        var bytes = [UInt8](repeating: 0, count: 100)
        #expect(read(reader, &bytes, 100) == 10)
    }

    /// Bug: a directory was found only when the work had been done.
    @Test(arguments: ["", "/missing/result", "/file/result", "/dangling"])
    func whereNothingCanBeWrittenIsFoundBeforeTheWork(name: String) throws {
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try write("", to: folder + "/file")
        symlink("nowhere/at-all", folder + "/dangling")
        #expect(throws: FileError.self) { try ResultFile(folder + name).check() }
        #expect(try names() == ["dangling", "file"])
    }
}
