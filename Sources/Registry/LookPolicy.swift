/// Whether the push of a small blob looks first whether the store has it, or goes out at once.
///
/// A look costs as much as the bytes. Where few push nobody minds it, and what is there is not sent. Many at once would wait for it: the first
/// of them look, and all again while blobs are found to be there; then, where a write cannot tell by itself, one now and then.
struct LookPolicy {
    /// As many at once always look.
    static let fewPushes = 3
    /// So many look after a time without any push.
    static let looksAtFirst = 16
    /// So many look after one that the store had.
    static let looksAfterAFind = 64
    /// Of those that need not look and cannot tell, each one after so many does.
    static let pushesForALook = 32

    private var underWay = 0
    private var looksLeft = 0
    private var pushesWithoutALook = 0

    /// Begins a push; ``end(found:)`` ends it.
    ///
    /// - Parameter tells: a write finds out by itself that the blob is there.
    /// - Returns: whether it looks first.
    mutating func begin(tells: Bool) -> Bool {
        if underWay == 0 { looksLeft = max(looksLeft, Self.looksAtFirst) }
        underWay += 1
        if underWay > Self.fewPushes, looksLeft == 0, tells || pushesWithoutALook < Self.pushesForALook {
            pushesWithoutALook += 1
            return false
        }
        looksLeft = max(0, looksLeft - 1)
        pushesWithoutALook = 0
        return true
    }

    mutating func end(found: Bool) {
        underWay -= 1
        if found { looksLeft = Self.looksAfterAFind }
    }
}
