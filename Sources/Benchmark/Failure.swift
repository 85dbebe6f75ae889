internal import HTTPClient

/// An operation that failed. Failures are counted by kind, and the first of each kind is told in full.
struct Failure: Error, Sendable, CustomStringConvertible {
    /// Few words, the same for all failures of a sort.
    let kind: String
    let detail: String
    /// The run was ended, which is nobody's fault.
    let isCancellation: Bool

    init(_ kind: String, _ detail: String) {
        self.kind = kind
        self.detail = detail
        isCancellation = false
    }

    init(_ error: TransferError) {
        if case .receiver(let inner as Failure) = error.kind {
            self = inner
            return
        }
        kind = Self.kind(of: error)
        detail = error.description
        isCancellation =
            switch error.kind {
            case .cancelled, .closed: true
            default: false
            }
    }

    /// A status that was not hoped for, with the registry's own words.
    init(_ operation: String, status: Int, body: [UInt8] = []) {
        let words = String(decoding: body.prefix(300), as: UTF8.self).filter { !$0.isNewline }
        self.init("status \(status)", "\(operation): status \(status)\(words.isEmpty ? "" : ": \(words)")")
    }

    var description: String { detail }

    /// What may help, where a flag does.
    var advice: String {
        switch kind {
        case "TLS": ". --ca-file names other authorities to trust"
        case "status 401": ". --credentials FILE names a file with name:password"
        default: ""
        }
    }

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
