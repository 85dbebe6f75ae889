public import DiskTier
public import EdgeCache
internal import HTTPServer
internal import Metrics
public import ObjectStorage
public import RegistryAPI
internal import System

/// All that is counted of a node, as one page.
public struct NodeMetrics: Sendable {
    private let version: String
    private let startedAt = SystemTime().wallTime()
    private let tier: DiskTier
    private let edge: EdgeCache
    private let origin: MeteredStore
    private let observer: RequestObserver

    public init(version: String, tier: DiskTier, edge: EdgeCache, origin: MeteredStore, observer: RequestObserver) {
        self.version = version
        self.tier = tier
        self.edge = edge
        self.origin = origin
        self.observer = observer
    }

    /// Of what is asked on an address of its own, or on the socket.
    func ended(_ request: Request, _ end: ExchangeEnd) { observer.ended(request, end) }

    public func page() -> String {
        var page = Exposition()
        page.family("forebay_build_info", .gauge, "What runs.")
        page.sample("forebay_build_info", ["version": version], 1)
        observer.write(to: &page)
        writeCache(&page)
        origin.write(to: &page)
        writeIndex(&page)
        writeProcess(&page)
        return page.text
    }

    private func writeCache(_ page: inout Exposition) {
        let activity = edge.activitySoFar
        let tier = tier.statistics
        page.single("forebay_cache_hits_total", .counter, "Reads that were answered from here.", activity.hits)
        page.single("forebay_cache_misses_total", .counter, "Reads of what was not here.", activity.misses)
        page.single(
            "forebay_coalesced_requests_total",
            .counter,
            "Reads that joined a fetch under way for another.",
            activity.joined
        )
        page.family("forebay_fills_total", .counter, "Fetches of blobs into the cache, by what became of them.")
        for (outcome, count) in activity.fills {
            page.sample("forebay_fills_total", ["outcome": outcome.rawValue], count)
        }
        page.single("forebay_fills_running", .gauge, "Fetches of blobs under way.", edge.fillsUnderWay.count)
        page.single("forebay_upload_sessions", .gauge, "Uploads that are open.", edge.openUploads)
        page.single(
            "forebay_cache_bytes",
            .gauge,
            "What the cache takes on disk, reservations included.",
            tier.usedBytes
        )
        page.single(
            "forebay_cache_reserved_bytes",
            .gauge,
            "Of it, promised to fetches and uploads.",
            tier.reservedBytes
        )
        page.single("forebay_cache_limit_bytes", .gauge, "What the cache may take.", tier.ceilingBytes)
        page.single("forebay_cache_pinned_bytes", .gauge, "What pins hold.", tier.pinnedBytes)
        page.single(
            "forebay_cache_lingering_bytes",
            .gauge,
            "Of the cache, files that are gone and still read.",
            tier.lingeringBytes
        )
        page.single(
            "forebay_cache_quarantined_bytes",
            .gauge,
            "Of the cache, damaged files that were put aside.",
            tier.quarantinedBytes
        )
        page.single("forebay_cache_evicted_bytes_total", .counter, "Evicted to make room.", tier.evictedBytes)
        page.single("forebay_cache_evicted_blobs_total", .counter, "Evicted to make room.", tier.evictedBlobs)
        page.single(
            "forebay_cache_damaged_total",
            .counter,
            "Content that was not what its name says, and left the cache.",
            tier.damagedBlobs + tier.missingBlobs
        )
        page.single("forebay_cache_scrubs_total", .counter, "How often all content was hashed again.", tier.scrubs)
    }

    private func writeIndex(_ page: inout Exposition) {
        page.single(
            "forebay_index_up",
            .gauge,
            "0 while the index cannot be read, did not take the last write, or has a map that is nearly full.",
            tier.indexCondition.isWell ? 1 : 0
        )
        guard let totals = try? tier.inventoryTotals() else { return }
        page.family("forebay_cache_entries", .gauge, "What the cache holds.")
        page.sample("forebay_cache_entries", ["kind": "file"], totals.blobFiles)
        page.sample("forebay_cache_entries", ["kind": "inline"], totals.inlineBlobs)
        page.sample("forebay_cache_entries", ["kind": "manifest"], totals.manifests)
        page.sample("forebay_cache_entries", ["kind": "tag"], totals.tags)
        page.single("forebay_index_map_bytes", .gauge, "Address space of the index.", totals.indexMapBytes)
        page.single("forebay_index_bytes", .gauge, "Of it, ever used.", tier.statistics.indexBytes)
        page.single("forebay_index_live_bytes", .gauge, "Of it, in use.", totals.indexLiveBytes)
        page.family(
            "forebay_index_oldest_reader_seconds",
            .gauge,
            "Age of the oldest read; as long, what is freed cannot be used again."
        )
        page.sample(
            "forebay_index_oldest_reader_seconds",
            [:],
            seconds: Double(totals.oldestReaderNanoseconds) / 1e9
        )
    }

    private func writeProcess(_ page: inout Exposition) {
        let process = ProcessStatistics.now()
        page.family("process_cpu_seconds_total", .counter, "User and system time.")
        page.sample("process_cpu_seconds_total", [:], seconds: process.cpuSeconds)
        page.single("process_resident_memory_bytes", .gauge, "Memory in use.", process.residentBytes)
        page.single("process_virtual_memory_bytes", .gauge, "Address space in use.", process.virtualBytes)
        page.single("process_open_fds", .gauge, "Open file descriptors.", process.openFiles)
        page.single("process_max_fds", .gauge, "File descriptors that may be open.", process.openFileLimit)
        page.single("process_threads", .gauge, "Threads.", process.threads)
        page.single("process_start_time_seconds", .gauge, "Since 1970.", startedAt.seconds)
    }
}
