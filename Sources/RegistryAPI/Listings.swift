internal import DiskTier
internal import EdgeCache
internal import FoundationEssentials
internal import HTTPServer
internal import OCI

extension RegistryHandler {
    /// GET of a repository's tags, paged. (distribution-spec, "Listing Tags")
    func tags(_ name: RepositoryName, _ request: Request) throws(APIError) -> Response {
        let page = try Page(request, path: "/v2/\(name)/tags/list")
        guard let tags = try names(.tags(name), page) else {
            throw APIError(status: 404, code: .nameUnknown, message: "repository \(name) does not exist")
        }
        let json = "{\"name\":\(jsonString(name.description)),\"tags\":\(jsonArray(tags.names))}"
        return answer(json, page, tags)
    }

    /// GET of all repository names, paged, as Docker's registry has it.
    func catalog(_ request: Request) throws(APIError) -> Response {
        let page = try Page(request, path: "/v2/_catalog")
        guard let found = try names(.repositories, page) else { preconditionFailure("there is always a catalog") }
        return answer("{\"repositories\":\(jsonArray(found.names))}", page, found)
    }

    private func answer(_ json: String, _ page: Page, _ names: NamesAnswer) -> Response {
        Response(json: json, headers: page.headers(names))
            .marked(staleSeconds: names.staleSeconds, isOriginDown: edge.isOriginDown)
    }

    private func names(_ list: NameList, _ page: Page) throws(APIError) -> NamesAnswer? {
        try edge { () throws(EdgeError) in try edge.names(list, after: page.last, limit: page.limit) }
    }

    /// GET of the manifests that refer to one, with a filter by type. (distribution-spec, "Listing Referrers")
    func referrers(_ name: RepositoryName, _ subject: Digest, _ request: Request) throws(APIError) -> Response {
        var found = try edge { () throws(EdgeError) in try edge.referrers(name, subject) }
        var headers = [(name: "Content-Type", value: MediaType.imageIndex.rawValue)]
        if let type = request.parameter("artifactType"), !type.isEmpty {
            found = found.filter { $0.artifactType == type }
            headers.append(("OCI-Filters-Applied", "artifactType"))
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return Response(
                status: 200,
                headers: headers,
                body: .bytes(Array(try encoder.encode(ReferrersIndex(found))))
            )
        } catch {
            preconditionFailure("descriptors of strings and numbers cannot fail to encode: \(error)")
        }
    }
}

private func jsonArray(_ names: [String]) -> String { "[\(names.map(jsonString).joined(separator: ","))]" }

/// The part of a sorted list that `n` and `last` ask for.
struct Page {
    let path: String
    let limit: Int?
    /// Left out itself, and need not exist.
    let last: String?

    init(_ request: Request, path: String) throws(APIError) {
        self.path = path
        last = request.parameter("last")
        guard let text = request.parameter("n") else {
            limit = nil
            return
        }
        guard let number = Int64(digits: Array(text.utf8)) else {
            throw APIError(status: 400, code: .unsupported, message: "the parameter n must be a number of entries")
        }
        limit = Int(number)
    }

    /// A `Link` when more follows.
    func headers(_ answer: NamesAnswer) -> [(name: String, value: String)] {
        guard answer.hasMore, let limit, let end = answer.names.last else { return [] }
        return [("Link", "<\(path)?n=\(limit)&last=\(percentEncoded(end))>; rel=\"next\"")]
    }
}
