internal import CCurl

let tlsHandshakeFailed = Int32(CURLE_SSL_CONNECT_ERROR.rawValue)

extension Transfer {
    /// Whether a kept connection turned out dead before the server answered, so that a fresh one is worth a try.
    ///
    /// libcurl 7.88.1 repeats a request by itself, up to five times, when the end of a kept connection shows on reading or while the head
    /// is sent. A connection that breaks while the body is sent (`CURLE_SEND_ERROR`) is left to us.
    func mayBeRepeated(after run: RunResult) -> Bool {
        let broken = [CURLE_SEND_ERROR, CURLE_RECV_ERROR, CURLE_GOT_NOTHING].contains(run.code)
        return broken && stop == nil && wasSent && run.connectionsOpened == 0 && !hasAnswer && wire.request.isIdempotent
    }

    /// The response, or why there is none. `runs` are one or two, the last one tells.
    func outcome(of runs: [RunResult], totalTimeoutMilliseconds: Int?) -> Result<Response, TransferError> {
        let last = runs[runs.count - 1]
        if let stop { return .failure(failure(stop.kind, code: 0, stop.detail)) }
        if !wasSent, let (status, proxy) = last.refusedTunnel {
            let remedy =
                status == 407 ? "set the right name and password in the proxy's URL" : "let it pass the connection on"
            let kind = TransferError.Kind.tunnel(status: status, proxy: proxy)
            return .failure(
                failure(kind, code: last.code.rawValue, "\(remedy), or name the server's host in no_proxy")
            )
        }
        guard last.code == CURLE_OK else {
            let elapsed = runs.reduce(0) { $0 + $1.elapsedMicroseconds }
            let timedOut = totalTimeoutMilliseconds.map { elapsed >= Int64($0) * 1_000 } ?? false
            return .failure(failure(kind(of: last.code, timedOut: timedOut), code: last.code.rawValue, last.detail))
        }
        guard let response else { return .failure(failure(.badResponse, code: 0, "no head")) }
        // libcurl calls it done when a server answers and closes before it has taken the body.
        let length = wire.request.body.length
        if (200..<300).contains(response.status), last.bytesSent < length {
            return .failure(
                failure(
                    .badResponse,
                    code: 0,
                    "status \(response.status) after \(last.bytesSent) of \(length) body bytes"
                )
            )
        }
        return .success(response)
    }

    private func failure(_ kind: TransferError.Kind, code: UInt32, _ detail: String) -> TransferError {
        TransferError(
            wire.operation,
            kind,
            code: Int32(code),
            detail: detail,
            reachedServer: hasAnswer ? true : wasSent ? nil : false,
            bytesReceived: bytesReceived
        )
    }

    private func kind(of code: CURLcode, timedOut: Bool) -> TransferError.Kind {
        switch code {
        case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY: .resolve
        case CURLE_COULDNT_CONNECT, CURLE_PROXY: .connect
        case CURLE_OPERATION_TIMEDOUT: timedOut ? .timeout(.total) : wasSent ? .stalled : .timeout(.connect)
        case CURLE_SSL_CONNECT_ERROR, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER, CURLE_PEER_FAILED_VERIFICATION,
            CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR, CURLE_SSL_INVALIDCERTSTATUS, CURLE_SSL_ENGINE_INITFAILED:
            .tls
        case CURLE_SEND_ERROR, CURLE_SEND_FAIL_REWIND: .sendFailed
        // A tunnel that breaks shows as CURLE_RECV_ERROR too.
        case CURLE_RECV_ERROR, CURLE_GOT_NOTHING: wasSent ? .receiveFailed : .connect
        case CURLE_PARTIAL_FILE: .shortBody
        case CURLE_WEIRD_SERVER_REPLY, CURLE_UNSUPPORTED_PROTOCOL, CURLE_BAD_CONTENT_ENCODING: .badResponse
        case CURLE_URL_MALFORMAT: .invalid
        default: .other
        }
    }
}
