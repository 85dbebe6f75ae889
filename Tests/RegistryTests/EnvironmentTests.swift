import ObjectStorage
import Registry
import TestDoubles
import Testing

@Suite struct EnvironmentTests {
    private let complete = [
        "EPOCH_S3_ENDPOINT": "s3.example:9000", "EPOCH_S3_BUCKET": "images", "EPOCH_S3_ACCESS_KEY": "key",
        "EPOCH_S3_SECRET_KEY": "hidden", "EPOCH_S3_SECURE": "false", "HOME": "/nowhere",
    ]

    @Test func makesARegistryOfTheSeedsVariables() throws {
        let registry = try Registry.fromEnvironment(complete)
        #expect(registry.store.description.contains("images"))
        #expect(registry.layout.catalog.description == "epoch/catalog.json")
        let other = try Registry.fromEnvironment(complete.merging(["EPOCH_S3_PREFIX": "x/"]) { $1 })
        #expect(other.layout.catalog.description == "x/catalog.json")
    }

    @Test(arguments: ["EPOCH_S3_ENDPOINT", "EPOCH_S3_BUCKET", "EPOCH_S3_ACCESS_KEY", "EPOCH_S3_SECRET_KEY"])
    func whatIsMissingIsNamed(variable: String) {
        var environment = complete
        environment[variable] = nil
        let failure = #expect(throws: SeedVariables.Failure.self) { try Registry.fromEnvironment(environment) }
        #expect(failure?.description.contains(variable) == true)
        #expect(failure?.description.contains("hidden") == false)
    }

    @Test func aValueThatIsNoneIsNamed() {
        for (variable, value) in [
            ("EPOCH_S3_SECURE", "perhaps"), ("EPOCH_S3_BUCKET", "a/b"), ("EPOCH_S3_ENV_FILE", "/nowhere/x"),
        ] {
            let failure = #expect(throws: SeedVariables.Failure.self) {
                try Registry.fromEnvironment(complete.merging([variable: value]) { $1 })
            }
            #expect(failure?.description.contains(variable) == true)
        }
    }

    @Test func theEnvironmentGoesBeforeTheFile() throws {
        let folder = TemporaryFolder()
        try folder.write(
            Array("# comment\n EPOCH_S3_BUCKET = from-file \nEPOCH_S3_REGION=eu-north-1\nPATH=/x\n".utf8),
            to: "s3.env"
        )
        let variables = try SeedVariables(environment: [
            "EPOCH_S3_ENV_FILE": "\(folder.path)/s3.env", "EPOCH_S3_REGION": "us-west-2",
        ])
        #expect(variables["EPOCH_S3_BUCKET"]?.text == "from-file")
        #expect(variables["EPOCH_S3_REGION"]?.source == "environment variable EPOCH_S3_REGION")
        #expect(variables["PATH"] == nil)
    }
}
