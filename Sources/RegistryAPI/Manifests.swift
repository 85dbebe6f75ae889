internal import EdgeCache
internal import HTTPServer
internal import OCI

extension RegistryHandler {
    /// GET and HEAD of a manifest. (distribution-spec, "Pulling manifests")
    func manifest(
        _ name: RepositoryName,
        _ reference: Reference,
        _ request: Request
    ) throws(APIError) -> Response {
        let found = try edge { () throws(EdgeError) in try edge.manifest(name, reference, noting: request.note(_:)) }
        guard let answer = found else { throw unknownManifest(name, reference) }
        if request.method == "HEAD" { edge.hasTold(answer.digest, in: name) }
        let response = self.answer(
            answer.digest,
            manifestHeaders(answer.digest, answer.mediaType),
            answer.bytes,
            request
        )
        return response.marked(
            staleSeconds: answer.staleSeconds,
            isOriginDown: request.isHit && edge.isOriginDown
        )
    }

    func manifestHeaders(_ digest: Digest, _ mediaType: MediaType) -> [(name: String, value: String)] {
        let text = digest.description
        return [("Docker-Content-Digest", text), ("ETag", "\"\(text)\""), ("Content-Type", mediaType.rawValue)]
    }

    func answer(
        _ digest: Digest,
        _ headers: [(name: String, value: String)],
        _ bytes: [UInt8],
        _ request: Request
    ) -> Response {
        if request.header("If-None-Match") == "\"\(digest)\"" {
            return Response(status: 304, headers: headers, body: .empty)
        }
        let body: Response.Body = request.method == "HEAD" ? .withheld(length: Int64(bytes.count)) : .bytes(bytes)
        return Response(status: 200, headers: headers, body: body)
    }

    /// PUT of a manifest, by tag, or by digest with any number of `tag` parameters. (distribution-spec, "Pushing Manifests")
    func putManifest(
        _ name: RepositoryName,
        _ reference: Reference,
        _ request: Request
    ) throws(APIError) -> Reply {
        let limit = configuration.manifestLimitBytes
        if let length = request.contentLength, length > limit { throw Self.manifestTooLarge(limit) }
        let tags = try tagParameters(reference, request)
        let contentType = request.header("Content-Type").map { MediaType(rawValue: $0) }
        return .receive(
            CollectedBody(limitBytes: limit) { bytes in
                guard let bytes else { return failed(Self.manifestTooLarge(limit), "PUT manifest of \(name)") }
                do throws(EdgeError) {
                    let pushed = try edge.pushManifest(name, reference, tags: tags, bytes, contentType: contentType)
                    return created(name, reference, pushed, tags: tags)
                } catch {
                    return failed(APIError(error), "PUT manifest \(name) \(reference)")
                }
            }
        )
    }

    func deleteManifest(_ name: RepositoryName, _ reference: Reference) throws(APIError) -> Response {
        let existed = try edge { () throws(EdgeError) in
            switch reference {
            case .tag(let tag): try edge.deleteTag(name, tag)
            case .digest(let digest): try edge.deleteManifest(name, digest)
            }
        }
        guard existed else { throw unknownManifest(name, reference) }
        return Response(status: 202, headers: [], body: .empty)
    }

    private func created(
        _ name: RepositoryName,
        _ reference: Reference,
        _ pushed: PushedManifest,
        tags: [Tag]
    ) -> Response {
        var headers = [
            (name: "Location", value: "/v2/\(name)/manifests/\(reference)"),
            (name: "Docker-Content-Digest", value: pushed.digest.description),
        ]
        if let subject = pushed.subject { headers.append(("OCI-Subject", subject.description)) }
        if !tags.isEmpty { headers.append(("OCI-Tag", tags.map(\.description).joined(separator: ", "))) }
        return finished(Response(status: 201, headers: headers, body: .empty))
    }

    private func tagParameters(_ reference: Reference, _ request: Request) throws(APIError) -> [Tag] {
        guard case .digest = reference else { return [] }
        var tags: [Tag] = []
        for parameter in request.parameters where parameter.name == "tag" {
            do throws(NameError) {
                tags.append(try Tag(parameter.value))
            } catch {
                throw APIError(status: 400, code: .manifestInvalid, message: error.description)
            }
        }
        return tags
    }

    private func unknownManifest(_ name: RepositoryName, _ reference: Reference) -> APIError {
        APIError(
            status: 404,
            code: .manifestUnknown,
            message: "manifest \(reference) does not exist in repository \(name)"
        )
    }

    private static func manifestTooLarge(_ limit: Int) -> APIError {
        APIError(status: 413, code: .manifestInvalid, message: "a manifest may have at most \(limit) bytes")
    }
}

extension Response {
    /// Says that the origin could not be asked: of what may be stale for it how old it is, of all else from here that the origin is down.
    /// (RFC 9111, section 5.1; RFC 7234, sections 5.5.1 and 5.5.3)
    func marked(staleSeconds: Int64? = nil, isOriginDown: Bool) -> Response {
        var response = self
        if let staleSeconds {
            response.headers += [("Age", "\(staleSeconds)"), ("Warning", "110 forebay \"Response is Stale\"")]
        } else if isOriginDown {
            response.headers.append(("Warning", "112 forebay \"Disconnected Operation\""))
        }
        return response
    }
}
