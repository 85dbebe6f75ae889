internal import Synchronization
public import System
internal import Threading

/// Sends HTTP/1.1 requests over connections that it keeps (libcurl, `curl_easy_perform(3)`).
///
/// Calls block, and any number of threads may call at once; ``ClientConfiguration/maxConnections`` of them transfer, the others wait.
/// A callback must not perform a request with the same client: with every handle taken, it would wait for itself.
public final class Client: Sendable {
    private let configuration: ClientConfiguration
    private let pool: HandlePool
    private let counts = Mutex(ClientStatistics())

    /// - Throws: ``TransferError`` of kind `invalid` for a certificate authority file that cannot be read, `other` when libcurl lacks
    ///   something.
    public init(_ configuration: ClientConfiguration, time: any TimeSource = SystemTime()) throws(TransferError) {
        configuration.check()
        try prepareLibrary(configuration)
        self.configuration = configuration
        pool = HandlePool(
            limit: configuration.maxConnections,
            forReads: configuration.connectionsForReads,
            maxIdleSeconds: configuration.maxConnectionIdleSeconds,
            time: time
        )
    }

    /// Refuses further requests and closes idle connections. Transfers that run go on to their end.
    public func close() { pool.close() }

    public var statistics: ClientStatistics { counts.withLock { $0 } }

    /// Those of requests under way, and those kept, some of which their servers may have closed meanwhile.
    public var connections: (inUse: Int, idle: Int) {
        let counts = pool.counts
        return (counts.lent, counts.idle)
    }

    /// Sends `request` and blocks until the response has ended.
    ///
    /// Any status is a response, redirects too: they are never followed. The body comes as the server sent it, whatever its
    /// `Content-Encoding`. A body delimited by the end of the connection alone, without `Content-Length` or chunks, cannot be told
    /// from one that was cut.
    ///
    /// - Parameters:
    ///   - isCancelled: asked at least once a second, and whenever bytes move; true ends the transfer.
    ///   - onHead: called once, when the head is whole, before any byte of the body.
    ///   - receive: called for each piece of the body, of at most 16 KiB. What it or `onHead` throws ends the transfer.
    /// - Returns: the head, the same as `onHead` got.
    @discardableResult
    public func perform(
        _ request: Request,
        isCancelled: (@Sendable () -> Bool)? = nil,
        onHead: (Response) throws -> Void = { _ in },
        receive: (Response, Span<UInt8>) throws -> Void
    ) throws(TransferError) -> Response {
        let wire = try WireRequest(request, headerLimitBytes: configuration.headerLimitBytes)
        // Both closures end their lives with the transfer, which does not leave this call.
        let result = withoutActuallyEscaping(onHead) { onHead in
            withoutActuallyEscaping(receive) { receive in
                let transfer = Transfer(
                    wire,
                    headerLimitBytes: configuration.headerLimitBytes,
                    isCancelled: isCancelled,
                    onHead: onHead,
                    receive: receive
                )
                return Result { () throws(TransferError) in try run(transfer, isCancelled) }
            }
        }
        return try result.get()
    }

    /// Sends `request` and returns the response with its whole body, or with the first `bodyLimitBytes` of it where the status is an error's.
    ///
    /// - Throws: ``TransferError`` of kind `bodyLimit` when another body is longer than that.
    @discardableResult
    public func perform(
        _ request: Request,
        bodyLimitBytes: Int = 4 << 20,
        isCancelled: (@Sendable () -> Bool)? = nil
    ) throws(TransferError) -> (Response, [UInt8]) {
        var body: [UInt8] = []
        var failure: Response?
        do throws(TransferError) {
            let response = try perform(request, isCancelled: isCancelled) { response, piece in
                guard body.count + piece.count <= bodyLimitBytes else {
                    if response.status >= 300 {
                        piece.extracting(first: bodyLimitBytes - body.count).withUnsafeBufferPointer {
                            body.append(contentsOf: $0)
                        }
                        failure = response
                    }
                    throw BodyLimitExceeded()
                }
                if body.isEmpty { body.reserveCapacity(Int(min(response.contentLength ?? 0, Int64(bodyLimitBytes)))) }
                piece.withUnsafeBufferPointer { body.append(contentsOf: $0) }
            }
            return (response, body)
        } catch {
            guard case .receiver(let reason) = error.kind, reason is BodyLimitExceeded else { throw error }
            if let failure { return (failure, body) }
            throw TransferError(
                error.operation,
                .bodyLimit,
                detail: "the limit is \(bodyLimitBytes) bytes",
                reachedServer: true,
                bytesReceived: error.bytesReceived
            )
        }
    }

    private func run(
        _ transfer: Transfer,
        _ isCancelled: (@Sendable () -> Bool)?
    ) throws(TransferError) -> Response {
        let handle = try admit(transfer, isCancelled)
        defer { pool.give(handle, writing: transfer.wire.writes) }
        let timeout = transfer.wire.request.totalTimeoutMilliseconds ?? configuration.totalTimeoutMilliseconds
        let first = handle.run(
            transfer,
            configuration,
            onFreshConnection: false,
            totalTimeoutMilliseconds: timeout
        )
        guard transfer.mayBeRepeated(after: first) else {
            return try conclude(transfer, [first], timeout)
        }
        transfer.rewind()
        let second = handle.run(
            transfer,
            configuration,
            onFreshConnection: true,
            totalTimeoutMilliseconds: timeout.map { max(1, $0 - Int(first.elapsedMicroseconds / 1_000)) }
        )
        return try conclude(transfer, [first, second], timeout)
    }

    private func admit(
        _ transfer: Transfer,
        _ isCancelled: (@Sendable () -> Bool)?
    ) throws(TransferError) -> EasyHandle {
        let milliseconds = configuration.admissionTimeoutMilliseconds
        let operation = transfer.wire.operation
        let deadline = Deadline.after(.milliseconds(milliseconds))
        switch pool.take(writing: transfer.wire.writes, until: deadline, isCancelled: isCancelled) {
        case .handle(let handle): return handle
        case .closed: throw TransferError(operation, .closed)
        case .cancelled: throw TransferError(operation, .cancelled)
        case .noMemory: throw TransferError(operation, .other, detail: "curl_easy_init: out of memory")
        case .timeout:
            throw TransferError(
                operation,
                .timeout(.admission),
                detail: "the connections that it may use were busy for \(milliseconds) ms"
            )
        }
    }

    private func conclude(
        _ transfer: Transfer,
        _ runs: [RunResult],
        _ totalTimeoutMilliseconds: Int?
    ) throws(TransferError) -> Response {
        let outcome = transfer.outcome(of: runs, totalTimeoutMilliseconds: totalTimeoutMilliseconds)
        let opened = runs.reduce(0) { $0 + $1.connectionsOpened }
        counts.withLock { counts in
            counts.transfers += 1
            if case .failure = outcome { counts.failures += 1 }
            counts.connectionsOpened += opened
            if opened == 0, transfer.wasSent { counts.connectionsReused += 1 }
            counts.repeats += max(0, transfer.attempts - 1)
            counts.bytesSent += Int(runs.reduce(0) { $0 + $1.bytesSent })
            counts.bytesReceived += Int(transfer.bytesReceived)
        }
        return try outcome.get()
    }
}

private struct BodyLimitExceeded: Error {}
