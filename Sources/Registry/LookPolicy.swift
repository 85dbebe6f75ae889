/// Whether the push of a small blob looks first whether the store has it, or goes out at once as a write that counts only if it is not there.
///
/// A look costs as much as the bytes. Where few push nobody minds it, and what is there is not sent. Many at once would wait for it: they
/// look only while blobs are found to be there.
struct LookPolicy {
    /// As many at once always look.
    static let fewPushes = 3
    /// So many look after one that the store had.
    static let looksAfterAFind = 64

    private var underWay = 0
    private var looksLeft = 0

    /// Begins a push; ``end(found:)`` ends it.
    ///
    /// - Returns: whether it looks first.
    mutating func begin() -> Bool {
        underWay += 1
        guard underWay > Self.fewPushes else { return true }
        guard looksLeft > 0 else { return false }
        looksLeft -= 1
        return true
    }

    mutating func end(found: Bool) {
        underWay -= 1
        if found { looksLeft = Self.looksAfterAFind }
    }
}
