/// How far a listing of many pages has come. A store that gave pages for ever would hold whoever lists for as long.
struct ListingCourse {
    /// Pages without an entry, in a row.
    private static let mostEmptyPages = 1_000

    /// What to ask the next page with; `nil` before the first and after the last.
    private(set) var continuation: String?
    private var asked: Set<String> = []
    /// The first entry of each page.
    private var seen: Set<String> = []
    private var emptyPages = 0

    /// False where the store has begun again, or has had nothing to say for too long.
    ///
    /// - Parameters:
    ///   - next: what the page gave to go on with.
    ///   - first: its first entry.
    mutating func advance(to next: String?, past first: String?) -> Bool {
        continuation = next
        guard let next else { return true }
        guard asked.insert(next).inserted else { return false }
        emptyPages = first == nil ? emptyPages + 1 : 0
        guard let first else { return emptyPages < Self.mostEmptyPages }
        return seen.insert(first).inserted
    }
}
