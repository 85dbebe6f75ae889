internal import DiskTier
internal import Hashing
internal import Logging
public import OCI
internal import Registry
internal import System

/// A manifest to answer with.
public struct ManifestAnswer: Sendable {
    /// Exactly as they were pushed.
    public let bytes: [UInt8]
    public let digest: Digest
    public let mediaType: MediaType
    /// Seconds since the origin last confirmed the tag, when the origin is down and the tag may be stale; else `nil`.
    public let staleSeconds: Int64?
    public internal(set) var status = CacheStatus.miss
}

/// What became of a pushed manifest.
public struct PushedManifest: Sendable {
    public let digest: Digest
    /// The manifest that it refers to and is now listed under.
    public let subject: Digest?
}

/// What identical manifest reads share.
struct ManifestFlight: Hashable, Sendable {
    let name: RepositoryName
    let reference: Reference
}

extension EdgeCache {
    /// The manifest that a tag or digest names; `nil` when there is none.
    ///
    /// A digest on disk is served without asking anyone. A tag is believed for ``Configuration/tagTTL``; while the origin is down, for
    /// ``Configuration/staleIfError``.
    ///
    /// - Parameter note: told where the answer came from, also where there is none.
    public func manifest(
        _ name: RepositoryName,
        _ reference: Reference,
        noting note: (CacheStatus) -> Void = { _ in }
    ) throws(EdgeError) -> ManifestAnswer? {
        var status = CacheStatus.miss
        defer { count(status, note) }
        let answer = try look(name, reference)
        status = answer?.status ?? .miss
        return answer
    }

    private func look(_ name: RepositoryName, _ reference: Reference) throws(EdgeError) -> ManifestAnswer? {
        switch reference {
        case .digest(let digest):
            if let answer = cachedManifest(name, digest) { return answer }
        case .tag(let tag):
            guard let cached = cachedTag(name, tag), let answer = answer(cached) else { break }
            if age(of: cached) < configuration.tagTTL { return answer }
            guard age(of: cached) < configuration.staleIfError else { break }
            return try refreshSoon(name, tag) ?? stale(answer, cached, name, tag, "it does not answer")
        }
        let flight = ManifestFlight(name: name, reference: reference)
        var isMine = false
        var answer = try manifestFlights.run(flight) {
            isMine = true
            return Result { () throws(EdgeError) in
                switch reference {
                case .digest(let digest): try fetch(name, digest)
                case .tag(let tag): try refresh(name, tag)
                }
            }
        }.get()
        if !isMine, answer?.status == .miss { answer?.status = .joined }
        return answer
    }

    private func fetch(_ name: RepositoryName, _ digest: Digest) throws(EdgeError) -> ManifestAnswer? {
        let stamp = tier.stamp()
        let stored = try atOrigin { () throws(RegistryError) in
            try registry.manifestIfPresent(name: name, digest: digest)
        }
        guard let stored else { return nil }
        keep("manifest \(name)@\(digest)") { () throws(DiskTierError) in
            try tier.record(
                manifest: digest,
                repository: name,
                mediaType: stored.mediaType,
                bytes: stored.bytes,
                since: stamp
            )
        }
        return ManifestAnswer(stored)
    }

    /// ``refresh(_:_:)`` for one who could be served what is here; `nil` when the origin takes too long.
    private func refreshSoon(_ name: RepositoryName, _ tag: Tag) throws(EdgeError) -> ManifestAnswer?? {
        let flight = ManifestFlight(name: name, reference: .tag(tag))
        let result = manifestFlights.run(flight, within: configuration.stalePatience) { [self] in
            Result { () throws(EdgeError) in try refresh(name, tag) }
        }
        guard let result else { return nil }
        return .some(try result.get())
    }

    private func stale(
        _ known: ManifestAnswer,
        _ cached: CachedTag,
        _ name: RepositoryName,
        _ tag: Tag,
        _ reason: String
    ) -> ManifestAnswer {
        log.warning("serving a stale tag", metadata: ["tag": "\(name):\(tag)", "error": "\(reason)"])
        return ManifestAnswer(
            bytes: known.bytes,
            digest: known.digest,
            mediaType: known.mediaType,
            staleSeconds: age(of: cached).components.seconds,
            status: .stale
        )
    }

    /// Asks the origin whether the tag still is what it was here.
    private func refresh(_ name: RepositoryName, _ tag: Tag) throws(EdgeError) -> ManifestAnswer? {
        let stamp = tier.stamp()
        let cached = cachedTag(name, tag)
        let known = cached.flatMap(answer)
        do throws(RegistryError) {
            switch try registry.lookUp(name: name, tag: tag, unlessETag: known == nil ? nil : cached?.etag) {
            case .unknown:
                drop(name, tag)
                return nil
            case .unchanged:
                if let cached { confirm(name, tag, cached, since: stamp) }
                var known = known
                known?.status = .revalidated
                return known
            case .found(let stored):
                record(name, tag, stored, since: stamp)
                return ManifestAnswer(stored)
            }
        } catch {
            guard let cached, let known, age(of: cached) < configuration.staleIfError else { throw .origin(error) }
            return stale(known, cached, name, tag, "\(error)")
        }
    }

    /// Stores a manifest at the origin under its digest and its tags; returns once the origin has it all.
    ///
    /// - Parameters:
    ///   - reference: what the manifest is pushed as; a digest must be its own.
    ///   - tags: further tags, for a push by digest.
    public func pushManifest(
        _ name: RepositoryName,
        _ reference: Reference,
        tags: [Tag] = [],
        _ bytes: [UInt8],
        contentType: MediaType?
    ) throws(EdgeError) -> PushedManifest {
        let manifest: Manifest
        do throws(Manifest.Invalid) {
            manifest = try Manifest(parsing: bytes, contentType: contentType)
        } catch {
            throw .manifestInvalid(error.description)
        }
        let digest: Digest
        var tags = tags
        switch reference {
        case .digest(let expected):
            digest = Digest(of: bytes, expected.algorithm)
            guard digest == expected else { throw .digestMismatch(expected: expected, actual: digest) }
        case .tag(let tag):
            digest = Digest(of: bytes)
            tags.append(tag)
        }
        try requireBlobs(of: manifest)
        try restoreChildren(of: manifest, in: name)
        try write(name, tags, digest, bytes, manifest.mediaType.essence)
        return PushedManifest(digest: digest, subject: manifest.subject?.digest)
    }

    /// To the origin, then to the tier.
    func write(
        _ name: RepositoryName,
        _ all: [Tag],
        _ digest: Digest,
        _ bytes: [UInt8],
        _ mediaType: MediaType
    ) throws(EdgeError) {
        let stamp = tier.stamp()
        let etags: [String?]
        do throws(EdgeError) {
            etags = try atOrigin { () throws(RegistryError) in
                try registry.pushManifest(name: name, tags: all, digest: digest, bytes, mediaType: mediaType)
            }
        } catch {
            // Only the origin knows what the tags are now.
            if error.mayBeDone {
                for tag in all {
                    keep("\(name):\(tag)") { () throws(DiskTierError) in
                        try tier.touch(tag: tag, repository: name, checkedAt: doubtful, since: stamp)
                    }
                }
                hasChanged(name, nil, all)
            }
            throw error
        }
        told.insert(digest, in: name)
        keep("manifest \(name)@\(digest)") { () throws(DiskTierError) in
            try tier.record(manifest: digest, repository: name, mediaType: mediaType, bytes: bytes, since: stamp)
        }
        for (tag, etag) in zip(all, etags) {
            record(
                name,
                tag,
                StoredManifest(bytes: bytes, digest: digest, mediaType: mediaType, etag: etag),
                since: stamp
            )
        }
        hasChanged(name, digest, all)
    }

    /// Removes a tag at the origin and here; false when there was none.
    public func deleteTag(_ name: RepositoryName, _ tag: Tag) throws(EdgeError) -> Bool {
        let existed = try atOrigin { () throws(RegistryError) in
            if case .found = try registry.lookUp(name: name, tag: tag, unlessETag: nil) { true } else { false }
        }
        do throws(EdgeError) {
            if existed { try atOrigin { () throws(RegistryError) in try registry.deleteTag(name: name, tag: tag) } }
        } catch {
            // Only the origin knows whether the tag is there still.
            if error.mayBeDone {
                drop(name, tag)
                hasChanged(name, nil, [tag])
            }
            throw error
        }
        defer { hasChanged(name, nil, [tag]) }
        try onDisk { () throws(DiskTierError) in try tier.forget(tag: tag, repository: name) }
        return existed
    }

    /// Removes a manifest and every tag that resolves to it, at the origin and here; false when there was none.
    public func deleteManifest(_ name: RepositoryName, _ digest: Digest) throws(EdgeError) -> Bool {
        do throws(RegistryError) {
            forget(name, digest, try registry.deleteManifest(name: name, digest: digest))
            return true
        } catch {
            guard EdgeError.origin(error).mayBeDone else { throw .origin(error) }
            forget(name, digest, [])
            if case .notFound = error { return false }
            // After a partial delete only the origin knows which tags are left.
            drop("tags of \(name)") { () throws(DiskTierError) in
                try tier.touch(tagsOf: name, checkedAt: doubtful)
            }
            throw .origin(error)
        }
    }

    /// - Parameter tags: those that the origin had for it; here they may still stand for something else.
    private func forget(_ name: RepositoryName, _ digest: Digest, _ tags: [Tag]) {
        drop("manifest \(name)@\(digest)") { () throws(DiskTierError) in
            try tier.forget(manifest: digest, tags: tags, repository: name)
        }
        hasChanged(name, digest, tags)
        forgetLists(name)
    }

    /// The manifests whose subject is this digest.
    public func referrers(_ name: RepositoryName, _ subject: Digest) throws(EdgeError) -> [Descriptor] {
        try atOrigin { () throws(RegistryError) in try registry.referrers(name: name, subject: subject) }
    }
}

// MARK: - The disk tier's part

extension EdgeCache {
    /// What is being read of these may be older than this node's own write, so nobody joins those reads any more.
    private func hasChanged(_ name: RepositoryName, _ digest: Digest?, _ tags: [Tag]) {
        if let digest { manifestFlights.forget(ManifestFlight(name: name, reference: .digest(digest))) }
        for tag in tags { manifestFlights.forget(ManifestFlight(name: name, reference: .tag(tag))) }
        if !tags.isEmpty { forgetLists(name) }
    }

    func cachedManifest(_ name: RepositoryName, _ digest: Digest) -> ManifestAnswer? {
        do throws(DiskTierError) {
            guard let cached = try tier.manifest(repository: name, digest: digest) else { return nil }
            return ManifestAnswer(cached, digest: digest)
        } catch {
            tier.note(error)
            return nil
        }
    }

    private func cachedTag(_ name: RepositoryName, _ tag: Tag) -> CachedTag? {
        do throws(DiskTierError) {
            return try tier.tag(repository: name, tag: tag)
        } catch {
            tier.note(error)
            return nil
        }
    }

    private func answer(_ cached: CachedTag) -> ManifestAnswer? {
        cached.manifest.map { ManifestAnswer($0, digest: cached.digest) }
    }

    private func record(
        _ name: RepositoryName,
        _ tag: Tag,
        _ stored: StoredManifest,
        since stamp: DiskTier.Stamp
    ) {
        let isKept = keep("\(name):\(tag)") { () throws(DiskTierError) in
            try tier.record(
                tag: tag,
                repository: name,
                digest: stored.digest,
                mediaType: stored.mediaType,
                bytes: stored.bytes,
                etag: stored.etag,
                checkedAt: time.wallTime(),
                since: stamp
            )
        }
        guard !isKept else { return }
        // What is here may be older than what the origin has now, so the next reader asks.
        drop(name, tag)
    }

    /// Of a tag that the next reader is to ask the origin for. While that does not answer, what was true before serves.
    private var doubtful: WallTime {
        WallTime(seconds: time.wallTime().seconds - configuration.tagTTL.components.seconds - 1)
    }

    /// With no TTL every read asks, and writing the answer down each time would make each read a write.
    private func confirm(_ name: RepositoryName, _ tag: Tag, _ cached: CachedTag, since stamp: DiskTier.Stamp) {
        guard configuration.tagTTL > .zero || age(of: cached) >= .seconds(60) else { return }
        keep("\(name):\(tag)") { () throws(DiskTierError) in
            try tier.touch(tag: tag, repository: name, checkedAt: time.wallTime(), since: stamp)
        }
    }

    /// Time since the origin last confirmed the tag; a clock that stepped back makes it old, not fresh, and so does a stop of no order.
    private func age(of cached: CachedTag) -> Duration { age(since: cached.checkedAt) }

    func age(since moment: WallTime) -> Duration {
        let seconds = time.wallTime().seconds - moment.seconds
        let isOld = seconds < 0 || moment.seconds <= confirmedSince?.seconds ?? .min
        let age = Duration.seconds(max(0, seconds))
        return isOld ? max(age, configuration.tagTTL) : age
    }

    /// What cannot be written down is asked for again: slower, never wrong.
    @discardableResult
    func keep(_ what: String, _ body: () throws(DiskTierError) -> Bool) -> Bool {
        do throws(DiskTierError) {
            return try body()
        } catch {
            tier.tellNotKept(what, error, log)
            return false
        }
    }

    func drop(_ what: String, _ body: () throws(DiskTierError) -> Void) {
        do throws(DiskTierError) {
            try body()
        } catch {
            log.error("not removed from the disk; delete it again", metadata: ["what": "\(what)", "error": "\(error)"])
        }
    }

    private func drop(_ name: RepositoryName, _ tag: Tag) {
        drop("\(name):\(tag)") { () throws(DiskTierError) in try tier.forget(tag: tag, repository: name) }
    }
}

extension ManifestAnswer {
    fileprivate init(_ cached: CachedManifest, digest: Digest) {
        self.init(bytes: cached.bytes, digest: digest, mediaType: cached.mediaType, staleSeconds: nil, status: .hit)
    }

    fileprivate init(_ stored: StoredManifest) {
        self.init(bytes: stored.bytes, digest: stored.digest, mediaType: stored.mediaType, staleSeconds: nil)
    }
}
