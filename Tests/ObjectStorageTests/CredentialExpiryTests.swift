import Synchronization
import TestDoubles
import Testing

@testable import ObjectStorage

/// Sources that give what has ended already.
extension CredentialCacheTests {
    private func ofInstance(_ name: String, seconds: Int64) throws -> Result<IssuedCredentials, CredentialFailure> {
        var credentials = try issued(name, seconds: seconds).get()
        credentials.outlastsItsEnd = true
        return .success(credentials)
    }

    private var calls: Int { script.calls.load(ordering: .relaxed) }

    private func give(_ result: Result<IssuedCredentials, CredentialFailure>) {
        script.results.withLock { $0 = [result] }
    }

    /// Bug: it was asked anew for each request, and those said "none after 30 s" at once.
    @Test func aSourceOfExpiredOnesIsGivenTime() throws {
        let provider = cache([issued("a", seconds: -60)])
        for _ in 0..<50 {
            let error = try #require(throws: StoreError.self) { try provider.current() }
            #expect(error.description.contains("credentials from a test are expired since 20"), "\(error)")
        }
        #expect(calls == 1)
        time.advance(.seconds(1))
        _ = try? provider.current()  // It is to fail.
        #expect(calls == 2)
        time.advance(.seconds(1))
        _ = try? provider.current()
        #expect(calls == 2, "the pause grows")
        time.advance(.seconds(1))
        _ = try? provider.current()
        #expect(calls == 3)
        waitUntil { !reports.all.isEmpty }
        #expect(reports.texts.count == 1 && reports.texts[0].contains("clock"), "told once")
        give(issued("b", seconds: 3_600))
        time.advance(.seconds(60))
        try expect("b", from: provider)
    }

    @Test func anInstancesAreUsedWhileThereAreNoNewerOnes() throws {
        let provider = cache([try ofInstance("old", seconds: -60)])
        for _ in 0..<50 { #expect(try provider.current()?.accessKey == "old") }
        #expect(calls == 1)
        waitUntil { !reports.all.isEmpty }
        #expect(reports.texts.count == 1 && reports.texts[0].contains("used until there are newer ones"))
        give(try ofInstance("new", seconds: 3_600))
        time.advance(.seconds(1))
        try expect("new", from: provider)
        waitUntil { reports.all.count == 2 }
        #expect(reports.texts.last?.hasPrefix("credentials from a test, valid until 20") == true)
    }

    /// Bug: they were given up when their service failed, though the store would have taken them.
    @Test func anInstancesOutlastAServiceThatFails() throws {
        let provider = cache([try ofInstance("a", seconds: 600), .failure(CredentialFailure("no answer"))])
        try expect("a", from: provider)
        time.advance(.seconds(400))
        #expect(try provider.current()?.accessKey == "a")
        waitUntil { reports.all.count == 2 }
        time.advance(.seconds(300))
        #expect(try provider.current()?.accessKey == "a")
    }

    @Test(arguments: [false, true]) func expiredOnesDoNotReplaceThoseThatAreValid(isInstance: Bool) throws {
        let expired = try isInstance ? ofInstance("b", seconds: -60) : issued("b", seconds: -60)
        let provider = cache([issued("a", seconds: 600), expired])
        try expect("a", from: provider)
        time.advance(.seconds(400))
        #expect(try provider.current()?.accessKey == "a")
        waitUntil { reports.all.count == 2 }
        #expect(try provider.current()?.accessKey == "a")
    }
}
