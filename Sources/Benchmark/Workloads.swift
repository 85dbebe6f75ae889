internal import OCI

// One function a workload: what is there before, and what an operation is.

extension Run {
    func execute(_ workload: Workload) {
        if workload == .cold || workload == .herd { explain(whatIsCold) }
        guard workload != .mixed else { return pullImages() }
        for size in plan.sizes {
            for clients in plan.clients where !stop.isSet {
                let detail = workload == .range ? rangeText(size) : sizeText(size)
                attempt(workload, detail, clients) { () throws(Failure) in
                    switch workload {
                    case .push: try push(size, clients)
                    case .cold: try pullCold(size, clients)
                    case .warm: try pullWarm(size, clients)
                    case .herd: try pullAsHerd(size, clients)
                    case .range: try readRanges(size, clients)
                    case .mixed: break
                    }
                }
            }
        }
    }

    private func pullImages() {
        attempt(.mixed, imageText, plan.clients[0]) { () throws(Failure) in
            let images = try pushImages()
            for clients in plan.clients where !stop.isSet { pullImages(images, clients) }
        }
    }

    private var imageText: String { "\(plan.images) of \(sizeText(plan.imageSize))" }
    private func rangeText(_ size: Int64) -> String { "\(sizeText(min(plan.rangeSize, size))) of \(sizeText(size))" }

    private var whatIsCold: String {
        if plan.isPushed { return "cold: as cold as the registry was for the content of this seed" }
        if let origin = plan.origin {
            return "cold: blobs pushed to \(origin), and pulled through the target for the first time"
        }
        return "cold: the first pull of a blob after its push through the same registry, which may have kept it then; "
            + "--origin pushes elsewhere"
    }

    /// Each blob once: enough that every client has one.
    private func lengths(_ size: Int64, _ clients: Int) -> [Int64] {
        Array(repeating: size, count: plan.requests ?? max(plan.count, clients))
    }

    /// For operations that use up what they work on.
    private func onceEach(_ count: Int, _ clients: Int) -> Schedule {
        Schedule(clients: clients, loop: loop, rate: plan.rate, operations: count, seconds: plan.seconds)
    }

    /// For operations that can go on for ever.
    private func steady(_ clients: Int) -> Schedule {
        Schedule(clients: clients, loop: loop, rate: plan.rate, operations: plan.requests, seconds: plan.seconds)
    }

    private var loop: RunReport.Loop { plan.rate == nil ? .closed : .open }

    private func push(_ size: Int64, _ clients: Int) throws(Failure) {
        let contents = try make(lengths(size, clients), for: .push)
        measure(Workload.push.title, sizeText(size), onceEach(contents.count, clients)) {
            [target, ledger] _, index, _, passage throws(Failure) in
            try target.push(contents[index], passage: passage, ledger: ledger)
        }
    }

    private func pullCold(_ size: Int64, _ clients: Int) throws(Failure) {
        let contents = try push(lengths(size, clients), to: source, for: .cold)
        let isCopied = plan.origin != nil
        measure(Workload.cold.title, sizeText(size), onceEach(contents.count, clients)) {
            [target, ledger, plan] _, index, _, passage throws(Failure) in
            if isCopied { ledger.note(.copy, target.blobURL(contents[index].digest), in: target) }
            try target.pull(contents[index], isVerified: plan.isVerified, passage: passage)
        }
    }

    private func pullWarm(_ size: Int64, _ clients: Int) throws(Failure) {
        let contents = try warmStock(size, for: .warm)
        measure(Workload.warm.title, sizeText(size), steady(clients)) {
            [target, plan] _, index, _, passage throws(Failure) in
            let content = contents[index % contents.count]
            try target.pull(content, isVerified: plan.isVerified, passage: passage)
        }
    }

    /// All clients want one blob at the same moment, a fresh one in each round.
    private func pullAsHerd(_ size: Int64, _ clients: Int) throws(Failure) {
        let contents = try push(Array(repeating: size, count: plan.rounds), to: source, for: .herd)
        noteCopies(of: contents.map { target.blobURL($0.digest) })
        let burst = Schedule(clients: clients, loop: .burst)
        measure(Workload.herd.title, sizeText(size), burst, repeating: plan.rounds) {
            [target, plan] round, _, _, passage throws(Failure) in
            try target.pull(contents[round], isVerified: plan.isVerified, passage: passage)
        }
    }

    private func readRanges(_ size: Int64, _ clients: Int) throws(Failure) {
        let contents = try warmStock(size, for: .range)
        let length = min(plan.rangeSize, size)
        measure(Workload.range.title, rangeText(size), steady(clients)) {
            [target, plan] _, index, _, passage throws(Failure) in
            var generator = SplitMix64(plan.seed &+ UInt64(index))
            let content = contents[Int(generator.next() % UInt64(contents.count))]
            let start = Int64.random(in: 0...size - length, using: &generator)
            try target.pull(
                content,
                range: start..<start + length,
                isVerified: plan.isVerified,
                passage: passage
            )
        }
    }

    private func pushImages() throws(Failure) -> [Image] {
        let images = try maker.makeImages(
            plan.images,
            size: plan.imageSize,
            onSample: { preparing(.mixed, "making layers", $0) }
        )
        var seen: Set<String> = []
        let blobs = images.flatMap(\.blobs).filter { seen.insert($0.digest.description).inserted }
        try push(blobs, to: source, for: .mixed)
        noteCopies(
            of: images.map { target.manifestURL($0.digest.description) } + blobs.map { target.blobURL($0.digest) }
        )
        guard !plan.isPushed else { return images }
        try forEach(images, preparing(.mixed, "pushing manifests", images.count)) {
            [source, ledger] image, _ throws(Failure) in
            try source.push(image, ledger: ledger)
        }
        return images
    }

    /// As a container engine does that has nothing yet: the tag's digest, the manifest, the config, the layers.
    private func pullImages(_ images: [Image], _ clients: Int) {
        let title = Workload.mixed.title
        measure(title, imageText, steady(clients)) { [target, plan] _, index, recorder, passage throws(Failure) in
            let image = images[index % images.count]
            try recorder.measure("manifest by tag") { () throws(Failure) in try target.checkManifest(image.tag) }
            try recorder.measure("manifest by digest") { () throws(Failure) in
                let expected = plan.isVerified ? image.manifest : nil
                try target.pull(manifest: image.digest.description, expecting: expected, passage: passage)
            }
            for blob in image.blobs {
                try recorder.measure("config or layer") { () throws(Failure) in
                    try target.pull(blob, isVerified: plan.isVerified, passage: passage)
                }
            }
        }
    }
}
