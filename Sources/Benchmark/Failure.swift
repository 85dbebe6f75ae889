internal import FoundationEssentials
internal import HTTPClient
internal import System

/// An operation that failed. Failures are counted by kind, and the first of each kind is told in full.
struct Failure: Error, Sendable, CustomStringConvertible {
    /// Few words, the same for all failures of a sort.
    let kind: String
    let detail: String
    private let status: Int?
    /// The registry's own, such as `DENIED`.
    private let code: String?
    private let transfer: TransferError?

    /// Of a registry's own words, in bytes.
    static let wordsLimit = 300

    /// The run was ended before the request was sent.
    static let cancelled = Failure(TransferError("", .cancelled))

    init(_ kind: String, _ detail: String) { self.init(kind, detail, status: nil, transfer: nil) }

    init(_ error: TransferError) {
        if case .receiver(let inner as Failure) = error.kind {
            self = inner
        } else {
            self.init(Self.kind(of: error), error.description, status: nil, transfer: error)
        }
    }

    /// A status that was not hoped for, with the registry's own words.
    init(_ operation: String, status: Int, body: [UInt8] = []) {
        let words = String(decoding: body.prefix(Self.wordsLimit), as: UTF8.self).filter { !$0.isNewline }
        let detail = "\(operation): status \(status)\(words.isEmpty ? "" : ": \(words)")"
        self.init("status \(status)", detail, status: status, code: errorCode(in: body), transfer: nil)
    }

    private init(_ kind: String, _ detail: String, status: Int?, code: String? = nil, transfer: TransferError?) {
        self.kind = kind
        self.detail = printable(detail)
        self.status = status
        self.code = code
        self.transfer = transfer
    }

    /// The same failure, with more to say.
    func explained(_ more: String, kind: String? = nil) -> Failure {
        Failure(kind ?? self.kind, "\(detail); \(more)", status: status, code: code, transfer: transfer)
    }

    var description: String { detail }

    /// Its kind with the registry's own code.
    var reason: String { code.map { "\(kind) \(printable($0))" } ?? kind }

    /// What may help, where a flag does.
    var advice: String {
        switch kind {
        case "TLS": ". --ca-file names other authorities to trust"
        case "status 401": ". --credentials FILE names a file with name:password"
        default: ""
        }
    }

    /// The run was ended, which is nobody's fault.
    var isCancellation: Bool {
        switch transfer?.kind {
        case .cancelled, .closed: true
        default: false
        }
    }

    /// The registry said so: the request changed nothing.
    var isRefusal: Bool { status.map { 400..<500 ~= $0 } ?? false }

    /// It is in use: a session by a request that was cut off, which the registry has not noticed yet.
    var isConflict: Bool { status == 409 }

    /// Of a session that is known to be there: it changes while what was sent arrives.
    var isNotFound: Bool { status == 404 }

    /// The whole answer came, and it was shorter or longer than what was pushed.
    var isWrongLength: Bool { transfer == nil && (kind == "cut short" || kind == "too long") }

    /// May be over when the same is tried a little later.
    var isTransient: Bool {
        if let status { return status == 408 || status == 429 || status >= 500 }
        switch transfer?.kind {
        case .resolve, .connect, .sendFailed, .receiveFailed, .shortBody: return true
        default: return false
        }
    }

    /// There is no answer from the registry, for whatever is asked of it.
    var isSilence: Bool { transfer?.isConnectionLevel ?? false }

    /// No answer came, and the registry may have done all the same what it was asked for.
    var isUnanswered: Bool { transfer.map { $0.reachedServer != false } ?? false }

    private static func kind(of error: TransferError) -> String {
        switch error.kind {
        case .resolve: "name lookup"
        case .connect: "cannot connect"
        case .tunnel: "refused by a proxy"
        case .tls: "TLS"
        case .timeout: "timeout"
        case .stalled: "stalled"
        case .sendFailed, .receiveFailed: "connection broken"
        case .shortBody: "cut short"
        case .badResponse, .bodyLimit: "bad response"
        case .cancelled, .closed: "cancelled"
        case .invalid, .receiver, .source, .other: "failed"
        }
    }
}

/// The code of the first error in a registry's answer (distribution-spec, "Error Codes"); `nil` when there is none to read.
func errorCode(in body: [UInt8]) -> String? {
    struct Answer: Decodable {
        struct Entry: Decodable { let code: String }
        let errors: [Entry]
    }
    return try? JSONDecoder().decode(Answer.self, from: Data(body)).errors.first?.code  // no such answer: no code
}
