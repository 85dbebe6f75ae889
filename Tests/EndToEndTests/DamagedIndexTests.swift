import Foundation
import Testing

/// LMDB follows its pages blindly, so they are looked at before it does.
@Suite("A damaged index")
struct DamagedIndexTests {
    private static let pageBytes = 4096
    private static let blobs = [1, 3_000, 12_000, 30_000, 200_000].enumerated().map { noise($1, seed: UInt64($0)) }

    private enum Damage: Int, CaseIterable {
        case zeros, noise, noisyHeader, theEnd
    }

    /// Bug: a node ended by a signal at every start, whatever it was told to do with an index that it cannot use.
    @Test(arguments: [true, false])
    func aNodeThatMayRebuildComesUp(cleanly: Bool) throws {
        try withForebay(flags: ["--cache-unreadable", "rebuild"]) { forebay in
            let manifest = try fill(forebay)
            if cleanly { try forebay.stop() } else { forebay.kill() }
            let kept = try Kept(forebay)
            var rebuilt = 0
            for page in 0..<kept.indexBytes / Self.pageBytes {
                let damage = Damage.allCases[page % Damage.allCases.count]
                let told = forebay.log.count
                try kept.restore()
                try apply(damage, to: page, of: kept.index)
                try forebay.start()
                try expectAll(of: forebay, manifest, "\(damage) of page \(page)")
                if forebay.log.dropFirst(told).contains("began a new cache index") { rebuilt += 1 }
                forebay.kill()
            }
            #expect(rebuilt > 4)
        }
    }

    /// The same where the damage comes under a running node, which may crash: then it comes up again.
    @Test func aNodeWhoseIndexIsOverwrittenComesUpAgain() throws {
        try withForebay(flags: ["--cache-unreadable", "rebuild"]) { forebay in
            let manifest = try fill(forebay)
            let kept = try Kept(forebay)
            for page in 2..<kept.indexBytes / Self.pageBytes { try apply(.noise, to: page, of: kept.index) }
            for blob in Self.blobs { _ = try? Repository(forebay).request("GET", "blobs/\(sha256(blob))") }
            forebay.kill()
            try forebay.start()
            try expectAll(of: forebay, manifest, "overwritten")
        }
    }

    @Test func aNodeThatMayNotSaysWhatToDo() throws {
        try withForebay { forebay in
            try fill(forebay)
            try forebay.stop()
            let kept = try Kept(forebay)
            for page in 2..<kept.indexBytes / Self.pageBytes { try apply(.zeros, to: page, of: kept.index) }
            for attempt in ["first", "second"] {
                let result = try forebay.launch(listening: forebay.endpoint, log: attempt).wait(seconds: 30)
                #expect(result.status == 69)
                #expect(result.errors.contains("is damaged") && result.errors.contains("--cache-unreadable rebuild"))
                #expect(result.errors.split(separator: "\n").count == 1, "\(result.errors)")
            }
        }
    }

    @discardableResult
    private func fill(_ forebay: Forebay) throws -> [UInt8] {
        for blob in Self.blobs { try Repository(forebay).push(blob: blob) }
        return try Repository(forebay).pushImage(tag: "v1")
    }

    private func expectAll(of forebay: Forebay, _ manifest: [UInt8], _ what: Comment) throws {
        for blob in Self.blobs {
            let response = try Repository(forebay).request("GET", "blobs/\(sha256(blob))")
            #expect(response.status == 200 && same(response.body, blob), what)
        }
        for reference in ["v1", sha256(manifest)] {
            let response = try Repository(forebay).request("GET", "manifests/\(reference)")
            #expect(response.status == 200 && response.body == manifest, what)
            #expect(response["Content-Type"] == manifestType, what)
        }
    }

    private func apply(_ damage: Damage, to page: Int, of index: String) throws {
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: index))
        defer { try? file.close() }  // It was written without a buffer.
        let start = UInt64(page * Self.pageBytes)
        if damage == .theEnd { return try file.truncate(atOffset: start + 100) }
        try file.seek(toOffset: start)
        switch damage {
        case .zeros, .theEnd: try file.write(contentsOf: Data(count: Self.pageBytes))
        case .noise: try file.write(contentsOf: Data(noise(Self.pageBytes, seed: UInt64(page))))
        case .noisyHeader: try file.write(contentsOf: Data(noise(16, seed: UInt64(page))))
        }
    }

    /// A cache directory as it was.
    private struct Kept {
        let index: String
        let indexBytes: Int
        private let folder: TemporaryDirectory
        private let directory: String

        init(_ forebay: Forebay) throws {
            folder = try TemporaryDirectory()
            directory = forebay.cacheDirectory
            index = directory + "/index/data.mdb"
            indexBytes = try contents(of: index).count
            guard forebay.processIdentifier == nil else { return }
            // A kill leaves it, and it is no file that could be copied.
            try? FileManager.default.removeItem(atPath: directory + "/admin.sock")
            try FileManager.default.copyItem(atPath: directory, toPath: folder.path + "/cache")
        }

        func restore() throws {
            try FileManager.default.removeItem(atPath: directory)
            try FileManager.default.copyItem(atPath: folder.path + "/cache", toPath: directory)
        }
    }
}
