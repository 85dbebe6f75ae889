import Testing

@Suite("Version check")
struct VersionTests {
    @Test(arguments: OriginKind.allCases)
    func answersTheVersionCheck(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let response = try forebay.endpoint.request("GET", "/v2/")
            #expect(response.status == 200)
            #expect(response["Docker-Distribution-Api-Version"] == "registry/2.0")
        }
    }
}
