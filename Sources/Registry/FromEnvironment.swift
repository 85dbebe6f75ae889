internal import HTTPClient
internal import ObjectStorage
public import System

extension Registry {
    /// A registry in the bucket that the seed's environment variables name (``SeedVariables``): `EPOCH_S3_ENDPOINT`, `EPOCH_S3_BUCKET`,
    /// `EPOCH_S3_ACCESS_KEY`, `EPOCH_S3_SECRET_KEY`, `EPOCH_S3_REGION`, `EPOCH_S3_PREFIX`, `EPOCH_S3_SECURE`.
    ///
    /// Nothing is sent yet. Call ``probe()`` once before several processes write into the bucket.
    public static func fromEnvironment(
        _ environment: [String: String] = processEnvironment()
    ) throws(SeedVariables.Failure) -> Registry {
        let variables = try SeedVariables(environment: environment)
        func required(_ name: String) throws(SeedVariables.Failure) -> String {
            guard let value = variables[name] else {
                throw SeedVariables.Failure(
                    description: "\(name): set it in the environment or in ~/.config/epoch/s3.env"
                )
            }
            return value.text
        }
        let url = try variables.url(endpoint: required("EPOCH_S3_ENDPOINT"))
        let bucket = try required("EPOCH_S3_BUCKET")
        let credentials = Credentials(
            accessKey: try required("EPOCH_S3_ACCESS_KEY"),
            secretKey: Secret(try required("EPOCH_S3_SECRET_KEY"))
        )
        do {
            let endpoint = try S3Endpoint(
                url,
                bucket: bucket,
                region: variables["EPOCH_S3_REGION"]?.text ?? "us-east-1",
                addressing: nil
            )
            let store = S3Store(
                S3Configuration(endpoint: endpoint, credentials: .fixed(credentials)),
                client: try Client(ClientConfiguration())
            )
            return Registry(store: store, prefix: variables.prefix)
        } catch {
            throw SeedVariables.Failure(description: "EPOCH_S3_ENDPOINT, EPOCH_S3_BUCKET or EPOCH_S3_REGION: \(error)")
        }
    }
}
