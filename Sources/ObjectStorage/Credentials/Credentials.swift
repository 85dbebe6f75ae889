/// A text that must not be shown: it prints as `(secret)`, also when what holds it is dumped.
public struct Secret: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    private let text: String

    public init(_ text: String) { self.text = text }

    public func reveal() -> String { text }

    public var description: String { "(secret)" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// What requests are signed with.
public struct Credentials: Sendable, Equatable {
    public var accessKey: String
    public var secretKey: Secret
    /// Of temporary credentials.
    public var sessionToken: Secret?

    public init(accessKey: String, secretKey: Secret, sessionToken: Secret? = nil) {
        self.accessKey = accessKey
        self.secretKey = secretKey
        self.sessionToken = sessionToken
    }
}

extension Credentials {
    /// The same, if requests can carry them. A secret key is never sent, and not every store's is made of visible characters alone.
    func checked(from source: String) throws(CredentialFailure) -> Credentials {
        func isVisible(_ text: String) -> Bool { text.utf8.allSatisfy { (0x21...0x7E).contains($0) } }
        var checked = self
        // Which is how some say that there is none.
        if sessionToken?.reveal().isEmpty == true { checked.sessionToken = nil }
        let secret = secretKey.reveal()
        let parts = [
            ("access key", !accessKey.isEmpty && isVisible(accessKey)),
            ("secret key", !secret.isEmpty && secret.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }),
            ("session token", isVisible(sessionToken?.reveal() ?? "")),
        ]
        for (part, isSound) in parts where !isSound {
            throw CredentialFailure("\(source): the \(part) is empty, or holds what none can, such as a line break")
        }
        return checked
    }

    /// What nobody may read in a request that they have signed.
    func secrets(in authorization: String) -> [Secret] {
        [secretKey, Secret(String(authorization.suffix(64)))] + [sessionToken].compactMap(\.self)
    }
}

extension [Secret] {
    func hidden(in text: String) -> String {
        reduce(text) { text, secret in
            secret.reveal().isEmpty ? text : text.replacing(secret.reveal(), with: "\(secret)")
        }
    }
}

extension Secret {
    /// What two texts have in common by chance is shorter.
    private static let pieceBytes = 16

    /// The text without pieces of this one.
    func hidden(inPiecesOf text: String) -> String {
        let (secret, text, length) = (Array(self.text.utf8), Array(text.utf8), Self.pieceBytes)
        let pieces = Set(secret.indices.dropLast(length - 1).map { secret[$0..<$0 + length] })
        var shown: [UInt8] = []
        var hiddenUntil = 0
        for start in text.indices {
            if pieces.contains(text[start...].prefix(length)) {
                if start >= hiddenUntil { shown += description.utf8 }
                hiddenUntil = start + length
            }
            if start >= hiddenUntil { shown.append(text[start]) }
        }
        return String(decoding: shown, as: UTF8.self)
    }
}

/// Where credentials come from. Asked for each request, so it must answer from memory as a rule.
public struct CredentialProvider: Sendable {
    /// `nil`: requests are sent unsigned.
    let current: @Sendable () throws(StoreError) -> Credentials?
    /// The store has refused the current ones, with this code; true when there are others now.
    let renew: @Sendable (_ code: String) -> Bool

    public init(
        _ current: @escaping @Sendable () throws(StoreError) -> Credentials?,
        renew: @escaping @Sendable (_ code: String) -> Bool = { _ in false }
    ) {
        self.current = current
        self.renew = renew
    }

    public static let anonymous = CredentialProvider { () throws(StoreError) in nil }

    public static func fixed(_ credentials: Credentials) -> CredentialProvider {
        CredentialProvider { () throws(StoreError) in credentials }
    }
}
