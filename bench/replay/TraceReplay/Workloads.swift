/// The workloads that a registry at the edge meets.
public enum Workload: String, CaseIterable, Sendable {
    /// Clients pull images of a catalog, some much more often than others. New releases replace old ones, and what is popular changes.
    case skew
    /// A farm runs pipelines: jobs that start together pull the layers of one base image at once, then each pulls layers of its own that
    /// nobody asks for again.
    case fanOut = "fan-out"
    /// The load of `skew`, and now and then a crawler that walks everything once.
    case scan
    /// All of it.
    case mix

    public func trace(seed: UInt64) -> Trace {
        var world = World(seed: seed)
        switch self {
        case .skew:
            var catalog = world.catalog(images: 4000, bases: 60, pullsPerRelease: 20)
            for _ in 0..<25_000 { world.pull(&catalog) }
        case .fanOut:
            var farm = world.farm(bases: 400, jobs: 1...4, runsPerRelease: 30)
            for _ in 0..<3000 { world.run(&farm) }
        case .scan:
            var catalog = world.catalog(images: 1500, bases: 60, pullsPerRelease: 40)
            let attic = world.images(6000)
            for _ in 0..<4 {
                for _ in 0..<3000 { world.pull(&catalog) }
                world.crawl(&catalog, attic, pullEvery: 3)
            }
        case .mix:
            var catalog = world.catalog(images: 2000, bases: 60, pullsPerRelease: 30)
            var farm = world.farm(bases: 60, jobs: 1...6, runsPerRelease: 30)
            let attic = world.images(8000)
            var crawled = 0
            for pull in 0..<20_000 {
                world.pull(&catalog)
                if pull % 8 == 0 { world.run(&farm) }
                guard pull % 10_000 > 6000 else { continue }
                for image in crawled..<crawled + 2 { world.read(attic[image % attic.count]) }
                crawled += 2
            }
        }
        return Trace(name: rawValue, reads: world.reads, sizes: world.sizes)
    }
}

/// Images that share bases, of which some are pulled more often.
private struct Catalog {
    struct Image {
        var base: Int
        var layers: [Int32]
    }

    var bases: [[Int32]]
    /// The most popular first.
    var images: [Image]
    let popularity: Zipf
    let pullsPerRelease: Int
    var pulls = 0
}

/// Base images of pipelines.
private struct Farm {
    var bases: [[Int32]]
    let popularity: Zipf
    let jobs: ClosedRange<Int>
    let runsPerRelease: Int
    var runs = 0
}

private struct World {
    private static let layersPerImage = 2...7
    private static let layersPerBase = 1...4
    /// A node that pulled another image of the same base has the base already.
    private static let baseIsThere = 0.5

    private var random: SeededGenerator
    private(set) var reads: [Int32] = []
    private(set) var sizes: [Int64] = []

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
    }

    mutating func read(_ layers: [Int32]) { reads += layers }

    mutating func layers(_ range: ClosedRange<Int>) -> [Int32] {
        let count = range.lowerBound + random.below(range.count)
        return (0..<count).map { _ in
            sizes.append(BlobSize.draw(&random))
            return Int32(sizes.count - 1)
        }
    }

    mutating func images(_ count: Int) -> [[Int32]] { (0..<count).map { _ in layers(Self.layersPerImage) } }

    mutating func catalog(images: Int, bases: Int, pullsPerRelease: Int) -> Catalog {
        let baseLayers = (0..<bases).map { _ in layers(Self.layersPerBase) }
        let basePopularity = Zipf(bases, skew: 0.8)
        let list = (0..<images).map { _ in
            Catalog.Image(base: basePopularity.draw(&random), layers: layers(Self.layersPerImage))
        }
        return Catalog(
            bases: baseLayers,
            images: list,
            popularity: Zipf(images, skew: 0.9),
            pullsPerRelease: pullsPerRelease
        )
    }

    mutating func pull(_ catalog: inout Catalog) {
        let image = catalog.images[catalog.popularity.draw(&random)]
        if random.fraction() >= Self.baseIsThere { read(catalog.bases[image.base]) }
        read(image.layers)
        catalog.pulls += 1
        guard catalog.pulls % catalog.pullsPerRelease == 0 else { return }
        catalog.images[catalog.popularity.draw(&random)].layers = layers(Self.layersPerImage)
        catalog.images.swapAt(catalog.popularity.draw(&random), catalog.popularity.draw(&random))
    }

    mutating func farm(bases: Int, jobs: ClosedRange<Int>, runsPerRelease: Int) -> Farm {
        Farm(
            bases: (0..<bases).map { _ in layers(4...10) },
            popularity: Zipf(bases, skew: 0.8),
            jobs: jobs,
            runsPerRelease: runsPerRelease
        )
    }

    mutating func run(_ farm: inout Farm) {
        let base = farm.bases[farm.popularity.draw(&random)]
        let jobs = farm.jobs.lowerBound + random.below(farm.jobs.count)
        for layer in base { read(Array(repeating: layer, count: jobs)) }
        for _ in 0..<jobs { read(layers(2...6)) }
        farm.runs += 1
        guard farm.runs % farm.runsPerRelease == 0 else { return }
        farm.bases[farm.popularity.draw(&random)] = layers(4...10)
    }

    mutating func crawl(_ catalog: inout Catalog, _ attic: [[Int32]], pullEvery: Int) {
        var all = attic + catalog.images.map { catalog.bases[$0.base] + $0.layers }
        all.shuffle(using: &random)
        for (index, image) in all.enumerated() {
            read(image)
            if index % pullEvery == 0 { pull(&catalog) }
        }
    }
}
