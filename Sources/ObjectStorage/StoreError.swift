public import System

/// An operation on a store that did not succeed.
///
/// Holds no secret. Texts from a server are cut and cleaned, so that all of it may be logged.
public struct StoreError: Error, Sendable, CustomStringConvertible {
    public enum Operation: String, Sendable {
        case head, get, put, delete, list, check, probe, sign

        var isChange: Bool { [.put, .delete, .probe].contains(self) }
    }

    public enum Kind: Sendable {
        /// No connection, or one that broke.
        case unreachable
        /// The store has been down a moment ago, so nobody waits for it.
        case unavailable
        /// The server's certificate was not accepted.
        case untrusted
        case timeout
        /// Too many requests for the store.
        case throttled
        /// The store has trouble of its own.
        case serverFailure
        /// The credentials do not permit it.
        case denied
        /// It is not permitted to who has no credentials.
        case anonymous
        /// A proxy on the way wants credentials of its own.
        case proxyRefused
        /// Unknown, expired or with a wrong signature.
        case badCredentials
        /// Their source gives none now.
        case noCredentials
        case noSuchBucket
        /// It was completed or aborted.
        case noSuchUpload
        /// The bucket is elsewhere; in `expected`, if the store said where.
        case wrongRegion(expected: String?)
        /// This machine's clock and the store's differ too much.
        case clockSkew
        /// Another write was under way, or the name is taken by something that cannot be replaced.
        case conflict
        /// No room, or a quota is used up.
        case noSpace
        case invalidRange
        /// Bytes were lost or changed on the way.
        case damagedBody
        /// An answer that makes no sense.
        case invalidResponse
        /// The store cannot do that.
        case unsupported
        /// A callback of the caller threw, or ended it.
        case receiver(any Error)
        case file(FileError)
        case other
    }

    public let operation: Operation
    /// The store's description.
    public let store: String
    public let key: ObjectKey?
    public let kind: Kind
    /// Of the response, if there was one.
    public let status: Int?
    /// S3's error code, for example `AccessDenied`.
    public let code: String?
    public let message: String
    /// What the store's operator finds the request by (`x-amz-request-id`).
    public let requestID: String?
    /// What the store asked for, in `Retry-After`.
    public let retryAfterSeconds: Int?
    /// The same request may succeed later.
    public let isRetryable: Bool
    /// What it was to change, or a part of it, may have changed all the same: a request was sent, and no answer says that nothing came of it.
    public let mayBeDone: Bool
    /// There was an attempt at it: the store was not known to be down, and there were credentials.
    public let wasTried: Bool
    /// The store's clock, when it answered.
    let serverTime: WallTime?

    package init(
        _ operation: Operation,
        in store: String,
        key: ObjectKey? = nil,
        _ kind: Kind,
        _ message: String,
        status: Int? = nil,
        code: String? = nil,
        requestID: String? = nil,
        retryAfterSeconds: Int? = nil,
        isRetryable: Bool? = nil,
        mayBeDone: Bool? = nil,
        wasTried: Bool? = nil,
        serverTime: WallTime? = nil
    ) {
        self.operation = operation
        self.store = store
        self.key = key
        self.kind = kind
        self.status = status
        self.code = code.map { printable($0, limit: 64) }
        self.message = printable(message, limit: 500)
        self.requestID = requestID.map { printable($0, limit: 128) }
        self.retryAfterSeconds = retryAfterSeconds
        self.isRetryable = isRetryable ?? kind.isTransient
        self.mayBeDone = mayBeDone ?? (operation.isChange && !kind.isRefusal)
        self.wasTried = wasTried ?? !kind.precludesAttempts
        self.serverTime = serverTime
    }

    public var description: String {
        var text = "\(operation.rawValue)\(key.map { " \($0)" } ?? "") in \(store): \(kind.text)"
        if !message.isEmpty { text += ": \(message)" }
        let details = [status.map { "status \($0)" }, code, requestID.map { "request \($0)" }].compactMap { $0 }
        if !details.isEmpty { text += " (\(details.joined(separator: ", ")))" }
        return text + (kind.remedy.map { "; \($0)" } ?? "")
    }
}

extension StoreError.Kind {
    var isTransient: Bool {
        switch self {
        case .unreachable, .unavailable, .timeout, .throttled, .serverFailure, .noCredentials: true
        default: false
        }
    }

    /// Nothing was done: it was not sent, or whoever is there would not have it.
    fileprivate var isRefusal: Bool {
        switch self {
        case .unavailable, .denied, .anonymous, .proxyRefused, .badCredentials, .noCredentials: true
        default: false
        }
    }

    fileprivate var precludesAttempts: Bool {
        switch self {
        case .unavailable, .noCredentials: true
        default: false
        }
    }

    /// The store has answered that this is not for whoever asks.
    public var isDenial: Bool {
        switch self {
        case .denied, .anonymous: true
        default: false
        }
    }

    var text: String {
        switch self {
        case .unreachable: "unreachable"
        case .unavailable: "down"
        case .untrusted: "not trusted"
        case .timeout: "timeout"
        case .throttled: "throttled"
        case .serverFailure: "the store failed"
        case .denied: "access denied"
        case .anonymous: "access denied without credentials"
        case .proxyRefused: "a proxy wants to know who asks"
        case .badCredentials: "the credentials were not accepted"
        case .noCredentials: "no valid credentials"
        case .noSuchBucket: "there is no such bucket"
        case .noSuchUpload: "there is no such upload"
        case .wrongRegion(let expected): "the bucket is elsewhere\(expected.map { ", in \($0)" } ?? "")"
        case .clockSkew: "the clocks differ"
        case .conflict: "conflict"
        case .noSpace: "no space"
        case .invalidRange: "invalid range"
        case .damagedBody: "damaged body"
        case .invalidResponse: "invalid response"
        case .unsupported: "not supported"
        case .receiver(let error): "ended by its receiver: \(error)"
        case .file(let error): "\(error)"
        case .other: "failed"
        }
    }

    fileprivate var remedy: String? {
        switch self {
        case .unreachable, .unavailable: "check the endpoint and the network"
        case .untrusted: "check the endpoint's certificate, or name the authority's file"
        case .denied: "check what the access key may do in this bucket"
        case .anonymous: "name credentials that permit it"
        case .proxyRefused:
            "set the right name and password in the proxy's URL (http_proxy, https_proxy), or name the endpoint's host in no_proxy"
        case .badCredentials: "check the access key, the secret key and the session token"
        case .noCredentials: "correct their source, or choose another with s3-credentials"
        case .noSuchBucket: "create it, or correct the bucket's name"
        case .wrongRegion: "correct the endpoint or the region"
        case .clockSkew: "set this machine's clock"
        default: nil
        }
    }
}

extension StoreError {
    /// What a read that asks for no range meets only where it goes on after a break.
    var isOfContinuation: Bool {
        switch kind {
        case .conflict, .invalidRange: operation == .get
        default: false
        }
    }

    /// The same, but not to be tried again.
    var final: StoreError { with(isRetryable: false, mayBeDone: mayBeDone) }

    /// The same, but worth another try.
    var passing: StoreError { with(isRetryable: true, mayBeDone: mayBeDone) }

    /// The same, where nothing was sent.
    var unsent: StoreError { with(isRetryable: isRetryable, mayBeDone: false) }

    /// The same, after something that may have been done.
    public var afterChange: StoreError { with(isRetryable: isRetryable, mayBeDone: true) }

    private func with(isRetryable: Bool, mayBeDone: Bool) -> StoreError {
        StoreError(
            operation,
            in: store,
            key: key,
            kind,
            message,
            status: status,
            code: code,
            requestID: requestID,
            retryAfterSeconds: retryAfterSeconds,
            isRetryable: isRetryable,
            mayBeDone: mayBeDone,
            wasTried: wasTried,
            serverTime: serverTime
        )
    }
}
