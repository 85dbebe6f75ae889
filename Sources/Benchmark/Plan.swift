/// What to do to a registry.
public enum Workload: String, CaseIterable, Codable, Sendable {
    case push, cold, warm, herd, mixed, range

    /// As it is called in reports.
    public var title: String {
        switch self {
        case .push: "push"
        case .cold: "cold pull"
        case .warm: "warm pull"
        case .herd: "herd"
        case .mixed: "image pull"
        case .range: "range read"
        }
    }
}

/// What a run does, with the limits of each part.
public struct Plan: Sendable {
    public var target: Target
    /// Where content is pushed that is pulled through the target; `nil` is the target itself.
    public var origin: Target?
    public var repository = "forebay-bench"
    public var credentials: BenchCredentials?
    public var originCredentials: BenchCredentials?
    /// A PEM file of the only authorities to trust.
    public var certificateAuthorityFile: String?
    public var workloads = Workload.allCases
    /// Of blobs, in bytes.
    public var sizes: [Int64] = [16 << 20]
    /// Blobs of each size; a push and a cold pull use each once, and take more when there are more clients.
    public var count = 16
    /// Connections at once.
    public var clients = [8]
    /// For each row; what has begun is finished.
    public var seconds = 10.0
    /// A measured request that takes longer fails; `nil` leaves it to the limit on stalls, which is a minute.
    public var requestSeconds: Double?
    /// Ends a row before its time.
    public var requests: Int?
    /// Operations started in a second; `nil` is a closed loop.
    public var rate: Double?
    /// Of a herd.
    public var rounds = 3
    public var rangeSize: Int64 = 1 << 20
    public var images = 4
    public var imageSize: Int64 = 64 << 20
    public var seed: UInt64
    public var isVerified = true
    /// Leaves the content where it is.
    public var isKept = false
    /// The content of this seed is there, from a run that kept it: nothing is pushed, so that servers can be measured that take no pushes.
    public var isPushed = false
    /// What the run is called beside others.
    public var label: String

    public init(target: Target, seed: UInt64) {
        self.target = target
        self.seed = seed
        label = target.place
    }

    public struct Invalid: Error, CustomStringConvertible {
        public let description: String
    }

    /// The most that one run may ask for.
    static let clientLimit = 4_096
    static let countLimit = 1_000_000
    static let sizeLimit: Int64 = 1 << 40

    /// - Throws: ``Invalid``, with the flag to change.
    public func check() throws(Invalid) {
        func require(_ holds: Bool, _ message: String) throws(Invalid) {
            guard holds else { throw Invalid(description: message) }
        }
        try require(!workloads.isEmpty, "--workloads names none")
        let pushes = workloads.contains(.push) || workloads.count > 1
        try require(!(isPushed && pushes), "--no-push takes one workload, and that no push")
        try require(!sizes.isEmpty && sizes.allSatisfy { 1...Self.sizeLimit ~= $0 }, "--size must be 1B to 1TiB")
        try require(1...Self.countLimit ~= count, "--count must be 1 to \(Self.countLimit)")
        let clientsFit = !clients.isEmpty && clients.allSatisfy { 1...Self.clientLimit ~= $0 }
        try require(clientsFit, "--clients must be 1 to \(Self.clientLimit)")
        try require(seconds > 0 && seconds <= 86_400, "--duration must be above 0 and at most 24h")
        try require(
            requestSeconds.map { $0 > 0 && $0 <= 86_400 } ?? true,
            "--request-timeout must be above 0 and at most 24h"
        )
        try require(requests.map { $0 > 0 } ?? true, "--requests must be above 0")
        let takesBlobs = workloads.contains(.push) || workloads.contains(.cold)
        try require(
            !takesBlobs || requests ?? 0 <= Self.countLimit,
            "--requests must be at most \(Self.countLimit) for push and cold, which take as many blobs"
        )
        try require(rate.map { $0 > 0 && $0 <= 1_000_000 } ?? true, "--rate must be above 0 and at most 1000000")
        try require(1...1_000 ~= rounds, "--rounds must be 1 to 1000")
        try require(1...Self.sizeLimit ~= rangeSize, "--range-size must be 1B to 1TiB")
        try require(1...1_000 ~= images, "--images must be 1 to 1000")
        try require(1_000...Self.sizeLimit ~= imageSize, "--image-size must be 1KB to 1TiB")
    }
}

extension Plan {
    /// What rows do not tell of themselves, by the flags' names.
    var summary: [String: String] {
        var summary = ["repository": repository, "duration": "\(shortText(seconds)) s"]
        summary["requests"] = requests.map { "\($0)" }
        summary["request-timeout"] = requestSeconds.map { "\(shortText($0)) s" }
        if workloads.contains(where: { [.push, .cold, .warm, .range].contains($0) }) { summary["count"] = "\(count)" }
        if workloads.contains(.herd) { summary["rounds"] = "\(rounds)" }
        if workloads.contains(.mixed) {
            summary["images"] = "\(images) of \(sizeText(imageSize))"
        }
        return summary
    }
}

/// `4 KiB`, `1.5 MiB`: as reports have it.
public func sizeText(_ bytes: Int64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var value = Double(bytes)
    var unit = 0
    while value >= 1_024, unit < units.count - 1 {
        value /= 1_024
        unit += 1
    }
    return "\(shortText(value)) \(units[unit])"
}

/// At most one digit after the point, and none that is a zero.
func shortText(_ value: Double) -> String {
    withoutZero(value.rounded(toPlaces: 1))
}

func withoutZero(_ value: Double) -> String {
    Int64(exactly: value).map { String($0) } ?? String(value)
}
