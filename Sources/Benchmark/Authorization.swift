internal import FoundationEssentials
internal import HTTPClient
internal import Synchronization

/// A name and a password. Neither is ever printed.
public struct BenchCredentials: Sendable, CustomStringConvertible {
    private let pair: String

    /// - Parameter text: `name:password`; white space around it is not part of it.
    public init?(_ text: String) {
        let line = text.split(whereSeparator: \.isNewline).first.map { $0.trimmingSpaces() } ?? ""
        guard let colon = line.firstIndex(of: ":"), colon > line.startIndex else { return nil }
        pair = String(line)
    }

    public var description: String { "credentials" }

    /// RFC 7617.
    var basic: String { "Basic " + Data(pair.utf8).base64EncodedString() }
}

/// What a registry says to whom it does not know: `WWW-Authenticate` (RFC 9110, section 11.6.1).
struct Challenge: Equatable {
    let scheme: String
    let parameters: [String: String]

    init?(_ header: String) {
        let words = header.split(separator: " ", maxSplits: 1)
        guard let scheme = words.first else { return nil }
        self.scheme = scheme.lowercased()
        parameters = Self.parameters(words.count > 1 ? words[1] : "")
    }

    /// `name="value", name=value`; a quoted value may hold commas.
    private static func parameters(_ text: Substring) -> [String: String] {
        var found: [String: String] = [:]
        var rest = text
        while let mark = rest.firstIndex(of: "=") {
            let name = rest[..<mark].drop { $0 == " " || $0 == "," }.trimmingSpaces().lowercased()
            rest = rest[rest.index(after: mark)...].drop { $0 == " " }
            var value = ""
            if rest.first == "\"" {
                rest.removeFirst()
                while let character = rest.popFirst(), character != "\"" {
                    value.append(character == "\\" ? rest.popFirst() ?? character : character)
                }
            } else {
                value = rest.prefix { $0 != "," }.trimmingSpaces()
                rest = rest.drop { $0 != "," }
            }
            found[name] = value
        }
        return found
    }
}

/// Answers challenges, and keeps the last answer for the requests that follow.
///
/// The token flow is that of the distribution project: the challenge names a realm, which gives a token for a scope.
final class Authorizer: Sendable {
    private let target: Target
    let credentials: BenchCredentials?
    private let client: Client
    private let current = Mutex<String?>(nil)

    init(_ target: Target, _ credentials: BenchCredentials?, _ client: Client) {
        self.target = target
        self.credentials = credentials
        self.client = client
    }

    /// What a request is sent with.
    struct Authorization {
        var header: String?
        /// It is what another request was given meanwhile.
        var isNewer = false
        /// It was fetched for this request and no other has used it: who is refused with it is refused for good.
        var isOwn = false
    }

    var authorization: Authorization { Authorization(header: current.withLock { $0 }) }

    /// What has been used once serves all.
    func share(_ authorization: inout Authorization) {
        guard authorization.isOwn else { return }
        let header = authorization.header
        current.withLock { $0 = header }
        authorization = Authorization(header: header)
    }

    /// Finds another `authorization` for a request that was refused with this one.
    func answer(
        _ challenges: [String],
        _ authorization: inout Authorization,
        isCancelled: @escaping @Sendable () -> Bool
    ) throws(Failure) {
        guard !authorization.isOwn else {
            throw Failure("status 401", "the registry does not accept the credentials")
        }
        let newest = self.authorization.header
        if newest != authorization.header, !authorization.isNewer {
            // May have been spent, or have run out, by the time it is used here.
            authorization = Authorization(header: newest, isNewer: true)
        } else {
            authorization = Authorization(header: try header(for: challenges, isCancelled), isOwn: true)
        }
    }

    private func header(
        for challenges: [String],
        _ isCancelled: @escaping @Sendable () -> Bool
    ) throws(Failure) -> String {
        for challenge in challenges.compactMap({ Challenge($0) }) {
            switch challenge.scheme {
            case "bearer": return "Bearer \(try token(for: challenge, isCancelled))"
            case "basic":
                guard let credentials else { throw Failure("status 401", "the registry wants credentials") }
                return credentials.basic
            default: continue
            }
        }
        throw Failure("status 401", "the registry asks for no kind of credentials that is known here")
    }

    private func token(
        for challenge: Challenge,
        _ isCancelled: @escaping @Sendable () -> Bool
    ) throws(Failure) -> String {
        guard let realm = challenge.parameters["realm"],
            let place = try? Target(String(realm.prefix { $0 != "?" }))  // no URL: said below
        else {
            throw Failure("status 401", "the challenge names no realm that is a URL")
        }
        let query = ["service", "scope"].compactMap { name in
            challenge.parameters[name].map { "\(name)=\(percentEncoded($0))" }
        }
        let url = realm + (query.isEmpty ? "" : (realm.contains("?") ? "&" : "?") + query.joined(separator: "&"))
        var request = Request("GET", url)
        request.totalTimeoutMilliseconds = RegistryClient.promptMilliseconds
        if let credentials {
            guard place.isEncrypted || !target.isEncrypted else {
                throw Failure("status 401", "the realm \(place.root) would get the credentials without TLS")
            }
            request.headers.append(("Authorization", credentials.basic))
        }
        let (response, body): (Response, [UInt8])
        do throws(TransferError) {
            (response, body) = try client.perform(request, bodyLimitBytes: 1 << 20, isCancelled: isCancelled)
        } catch {
            throw Failure(error)
        }
        guard response.status == 200,
            let answer = try? JSONDecoder().decode(TokenAnswer.self, from: Data(body)),  // not JSON: no token
            let token = answer.token ?? answer.access_token
        else { throw Failure("status 401", "\(place.root) gave no token: status \(response.status)") }
        return token
    }
}

private struct TokenAnswer: Decodable {
    let token: String?
    let access_token: String?
}

extension StringProtocol {
    fileprivate func trimmingSpaces() -> String {
        var view = self[...]
        while view.first?.isWhitespace == true { view.removeFirst() }
        while view.last?.isWhitespace == true { view.removeLast() }
        return String(view)
    }
}

/// For a value in a query (RFC 3986).
func percentEncoded(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF")
    return text.utf8.reduce(into: "") { result, byte in
        let isPlain =
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                true
            default: "-._~:/".utf8.contains(byte)
            }
        if isPlain {
            result.unicodeScalars.append(Unicode.Scalar(byte))
        } else {
            result += "%" + String([digits[Int(byte >> 4)], digits[Int(byte & 15)]])
        }
    }
}
