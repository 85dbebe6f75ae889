import Foundation
import Testing

/// Other ways than flags to say where everything is.
@Suite("Configuration of the process")
struct ConfigurationTests {
    @Test func theSeedsEnvironmentIsEnough() throws {
        let origin = try S3Origin(server: S3Server.required(), toldAsTheSeedIs: true)
        try withForebay(origin) { forebay in
            let manifest = try Repository(forebay, "seed/app").pushImage(tag: "v1")
            #expect(try same(origin.object("epoch/manifests/seed/app/v1.json"), manifest))
        }
    }

    @Test func aFileSaysWhatFlagsDoNot() throws {
        let folder = try TemporaryDirectory()
        let path = folder.path + "/forebay.yaml"
        try "manifest-limit: 5MiB\ntag-ttl: 1h\n".write(toFile: path, atomically: true, encoding: .utf8)
        try withForebay(flags: ["--config", path]) { forebay in
            let large = Array("{\"schemaVersion\":2,\"x\":\"\(String(repeating: "x", count: 5 << 20))\"}".utf8)
            let response = try Repository(forebay).request(
                "PUT",
                "manifests/large",
                ["Content-Type": manifestType],
                body: .bytes(large)
            )
            #expect(response.status == 413)
        }
    }

    @Test func theEffectiveConfigurationIsPrintedWithoutSecrets() throws {
        let printed = try run(
            [Settings.binary, "config", "--cache-size", "3GiB", "--s3-access-key", "known"],
            environment: ["AWS_SECRET_ACCESS_KEY": "hidden-secret", "FOREBAY_TAG_TTL": "7s"]
        )
        for words in [["cache-size", "3GiB", "--cache-size"], ["tag-ttl", "7s", "FOREBAY_TAG_TTL"]] {
            let line = printed.split(separator: "\n").first { $0.hasPrefix(words[0]) } ?? ""
            for word in words { #expect(line.contains(word), "\(printed)") }
        }
        #expect(!printed.contains("hidden-secret"))
    }
}
