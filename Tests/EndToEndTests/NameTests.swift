import Testing

@Suite("Names and routes over raw HTTP")
struct NameTests {
    @Test func aMalformedRepositoryNameIsInvalid() throws {
        try withForebay { forebay in
            for name in ["UPPER", "a/B", "-a", "a-", "a//b", "a..b", ".a", "a/_b", "a$b", "a%20b", "é"] {
                let escaped = name == "é" ? "%C3%A9" : name
                for rest in ["tags/list", "manifests/v1", "blobs/\(sha256([1]))"] {
                    let response = try forebay.endpoint.request("GET", "/v2/\(escaped)/\(rest)")
                    #expect([400, 404].contains(response.status), "\(name) \(rest)")
                    #expect(
                        !Set(response.errorCodes).isDisjoint(with: ["NAME_INVALID", "NAME_UNKNOWN"]),
                        "\(name) \(rest): \(response.text)"
                    )
                }
                let upload = try forebay.endpoint.request("POST", "/v2/\(escaped)/blobs/uploads/")
                #expect([400, 404].contains(upload.status), "\(name)")
            }
        }
    }

    /// A directory cannot have a file and a folder of one name, as a bucket can. Bug: that was told as trouble of the origin.
    @Test func aNameThatExcludesATagIsRefused() throws {
        try withForebay { forebay in
            let (tag, below) = (Repository(forebay, "team/app"), Repository(forebay, "team/app/b.json"))
            let manifest = try tag.pushImage(tag: "b")
            let refused = try below.request("PUT", "manifests/v1", body: .bytes(manifest))
            expectError(refused, 409, "NAME_INVALID")
            #expect(refused.text.contains("team/app/b.json"), "\(refused.text)")
            #expect(try same(tag.request("GET", "manifests/b").body, manifest))
        }
    }

    @Test func aNameTooLongIsInvalid() throws {
        try withForebay { forebay in
            let name = String(repeating: "a", count: 256)
            expectError(try forebay.endpoint.request("GET", "/v2/\(name)/tags/list"), 400, "NAME_INVALID")
            let longest = Repository(forebay, Array(repeating: "abcdefg", count: 32).joined(separator: "/"))
            #expect(longest.name.utf8.count == 255)
            let manifest = try longest.pushImage(tag: "v1")
            #expect(try same(longest.request("GET", "manifests/v1").body, manifest))
        }
    }

    @Test func aMalformedTagIsInvalid() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let manifest = try repository.pushImage(tag: "v1")
            for tag in ["-a", ".a", "a%2Fb", "a%20b", String(repeating: "a", count: 129), "a@b", "%C3%A9"] {
                let get = try repository.request("GET", "manifests/\(tag)")
                #expect([400, 404].contains(get.status), "\(tag)")
                #expect(!get.errorCodes.isEmpty, "\(tag): \(get.text)")
                let put = try repository.request(
                    "PUT",
                    "manifests/\(tag)",
                    ["Content-Type": manifestType],
                    body: .bytes(manifest)
                )
                #expect([400, 404].contains(put.status), "\(tag)")
                #expect(!put.errorCodes.isEmpty, "\(tag): \(put.text)")
            }
            let longest = String(repeating: "a", count: 128)
            try repository.push(manifest: manifest, as: longest)
            #expect(try same(repository.request("GET", "manifests/\(longest)").body, manifest))
        }
    }

    @Test func aMalformedManifestDigestIsInvalid() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let hex = sha256Hex([1])
            for digest in ["sha256:", "sha256:\(hex)0", "sha256:\(hex.uppercased())", "sha512:\(hex)", "md5:abc"] {
                expectError(try repository.request("GET", "manifests/\(digest)"), 400, "DIGEST_INVALID")
            }
        }
    }

    @Test func anUnknownRouteIsAJSONError() throws {
        try withForebay { forebay in
            for path in ["/", "/v1/", "/v2/library/test", "/v2/library/test/nothing/here", "/etc/passwd", "/v2x"] {
                let response = try forebay.endpoint.request("GET", path)
                #expect(response.status == 404, "\(path)")
                #expect(!response.errorCodes.isEmpty, "\(path): \(response.text)")
            }
        }
    }

    @Test func anUnsupportedMethodIsAJSONError() throws {
        try withForebay { forebay in
            for (method, path) in [
                ("POST", "/v2/a/tags/list"), ("PUT", "/v2/"), ("BREW", "/v2/"), ("PATCH", "/v2/a/manifests/v1"),
            ] {
                let response = try forebay.endpoint.request(method, path)
                #expect([404, 405, 501].contains(response.status), "\(method) \(path)")
                #expect(!response.errorCodes.isEmpty, "\(method) \(path): \(response.text)")
            }
        }
    }

    @Test func aPathCannotLeaveItsTree() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            try repository.pushImage(tag: "v1")
            for path in [
                "/v2/library/test/manifests/..%2f..%2fcatalog", "/v2/library/test/manifests/%2e%2e",
                "/v2/library/%2e%2e/test/tags/list", "/v2/..%2f..%2fetc/manifests/passwd",
                "/v2/library/test/blobs/..%2f..%2fcatalog.json", "/v2/library/test/manifests/_digests",
            ] {
                let response = try forebay.endpoint.request("GET", path)
                #expect([400, 404].contains(response.status), "\(path)")
                #expect(!response.errorCodes.isEmpty, "\(path): \(response.text)")
            }
        }
    }
}
