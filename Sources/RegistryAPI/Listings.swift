internal import EdgeCache
internal import FoundationEssentials
internal import HTTPServer
internal import OCI

extension RegistryHandler {
    /// GET of a repository's tags, paged. (distribution-spec, "Listing Tags")
    func tags(_ name: RepositoryName, _ request: Request) throws(APIError) -> Response {
        let page = try Page(request)
        guard let tags = try edge({ () throws(EdgeError) in try edge.tags(name) }) else {
            throw APIError(status: 404, code: .nameUnknown, message: "repository \(name) does not exist")
        }
        let (shown, link) = page.cut(tags.map(\.description), path: "/v2/\(name)/tags/list")
        return Response(
            json:
                "{\"name\":\(jsonString(name.description)),\"tags\":[\(shown.map(jsonString).joined(separator: ","))]}",
            headers: link
        )
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

    /// GET of all repository names, paged, as Docker's registry has it.
    func catalog(_ request: Request) throws(APIError) -> Response {
        let page = try Page(request)
        let names = try edge { () throws(EdgeError) in try edge.repositories() }
        let (shown, link) = page.cut(names, path: "/v2/_catalog")
        return Response(
            json: "{\"repositories\":[\(shown.map(jsonString).joined(separator: ","))]}",
            headers: link
        )
    }
}

/// The part of a sorted list that `n` and `last` ask for.
struct Page {
    private let count: Int?
    private let last: String?

    init(_ request: Request) throws(APIError) {
        last = request.parameter("last")
        guard let text = request.parameter("n") else {
            count = nil
            return
        }
        guard let number = Int64(digits: Array(text.utf8)) else {
            throw APIError(status: 400, code: .unsupported, message: "the parameter n must be a number of entries")
        }
        count = Int(number)
    }

    /// - Parameter names: in order.
    /// - Returns: the page, and a `Link` header when more follows. `last` itself is left out, and need not exist.
    func cut(_ names: [String], path: String) -> (shown: [String], link: [(name: String, value: String)]) {
        let start = last.map { last in names.partitioningIndex { $0 > last } } ?? 0
        let rest = names[start...]
        guard let count, count < rest.count else { return (Array(rest), []) }
        let shown = Array(rest.prefix(count))
        guard let end = shown.last else { return ([], []) }
        let target = "\(path)?n=\(count)&last=\(percentEncoded(end))"
        return (shown, [("Link", "<\(target)>; rel=\"next\"")])
    }
}

extension [String] {
    /// The first index whose element belongs to the second part; binary search.
    fileprivate func partitioningIndex(where belongsToSecond: (String) -> Bool) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if belongsToSecond(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
