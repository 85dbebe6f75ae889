internal import OCI
internal import Threading

/// What bounds a fill.
struct FillLimits: Sendable {
    /// Of one request to the origin.
    var partBytes: Int64
    /// Parts of one blob in flight; readers who wait elsewhere may double it.
    var partsInFlight: Int
    /// A reader whose bytes are behind others in their part waits so long, and when they would take longer still, they are fetched by themselves.
    var readerPatience: Duration
    /// A fill without clients goes on as long as no more than this is still to fetch.
    var unattendedBytes: Int64
    /// A client that comes back within this time finds the fill under way.
    var returnPatience: Duration
}

// The jobs of a fill: each fetches a part, then goes back into the queue, so that the fills share the threads.

extension Fill {
    enum Job: Sendable {
        /// A reader waits.
        case urgent
        /// Somebody will want it.
        case ahead
    }

    /// The parts that nobody waits for may come from now on; false when they may already.
    func readAhead() -> Bool {
        state.withLock { state in
            defer { state.readsAhead = true }
            return !state.readsAhead
        }
    }

    /// The right to queue one more job, when there is something for it to do.
    func admitJob(_ limits: FillLimits) -> Job? {
        state.withLock { state in
            guard let job = state.nextJob(limits) else { return nil }
            let jobs = state.running + state.queued
            guard jobs < (job == .urgent ? limits.partsInFlight * 2 : limits.partsInFlight) else { return nil }
            state.enqueue(job)
            return job
        }
    }

    /// The queue did not take the job.
    func dismiss(_ job: Job) {
        state.withLock { $0.dequeue(job) }
    }

    /// A thread has come to the job; false when it came too late.
    func begin(_ job: Job) -> Bool {
        state.withLock { state in
            state.dequeue(job)
            guard state.phase.isLive else { return false }
            state.running += 1
            return true
        }
    }

    /// The next part to fetch: one that a reader waits for, else the first. An urgent job takes no other, as its thread is kept for those.
    func claimPart(for job: Job, _ limits: FillLimits) -> PartMap.Part? {
        state.withLock { state in
            guard case .streaming = state.phase else { return nil }
            for offset in state.waiting {
                if let part = state.map?.claim(at: offset) { return part }
            }
            return job == .ahead && state.mayReadAhead(limits) ? state.map?.claimFirst() : nil
        }
    }

    enum Next: Sendable {
        /// The job goes back into the queue.
        case again(Job)
        case done
        /// It was the last job of a fill that ended in vain: what is left is to be put away.
        case conclude
    }

    /// The job is through with its part.
    ///
    /// - Parameter stops: it takes no other.
    func endJob(_ limits: FillLimits, stops: Bool) -> Next {
        state.update { state in
            state.running -= 1
            let jobs = state.running + state.queued
            if !stops, let job = state.nextJob(limits), job == .urgent || jobs < limits.partsInFlight {
                state.enqueue(job)
                return .again(job)
            }
            if case .streaming = state.phase, jobs == 0, state.map?.restBytes != 0 { state.phase = .paused }
            guard state.phase.isInVain, state.running == 0, !state.isConcluded else { return .done }
            state.isConcluded = true
            return .conclude
        }
    }
}

extension Fill.State {
    /// What one more job would do, beside those in the queue.
    fileprivate func nextJob(_ limits: FillLimits) -> Fill.Job? {
        guard case .streaming = phase, let map else { return nil }
        if waiting.count(where: { map.isOpen($0) }) > queuedUrgent { return .urgent }
        return mayReadAhead(limits) && map.openParts > queued ? .ahead : nil
    }

    fileprivate mutating func enqueue(_ job: Fill.Job) {
        queued += 1
        if job == .urgent { queuedUrgent += 1 }
    }

    fileprivate mutating func dequeue(_ job: Fill.Job) {
        queued -= 1
        if job == .urgent { queuedUrgent -= 1 }
    }

    fileprivate func mayReadAhead(_ limits: FillLimits) -> Bool {
        guard readsAhead else { return false }
        return isAttended(limits)
    }

    private func isAttended(_ limits: FillLimits) -> Bool {
        members > 0 || (map?.missingBytes ?? 0) <= limits.unattendedBytes
    }

    /// Its last client has left for good, and too much is missing.
    fileprivate mutating func isForsaken(at now: UInt64, _ limits: FillLimits) -> Bool {
        guard !isAttended(limits) else {
            leftAt = nil
            return false
        }
        let since = leftAt ?? now
        leftAt = since
        return .nanoseconds(now - min(now, since)) >= limits.returnPatience
    }
}

// MARK: - What lands

extension Fill {
    /// Bytes are in the file.
    func land(_ range: Range<Int64>) {
        let isAwaited = state.withLock { state in
            state.map?.land(range)
            return state.waiting.contains { range.contains($0) }
        }
        // Waking is dear, and most pieces come before anybody waits for them.
        if isAwaited { state.update { _ in } }
    }

    /// Where the part ends now: readers who wait behind may have it cut, and what nobody wants ends with its block.
    ///
    /// - Parameter position: the next byte from the origin.
    func endOfPart(at start: Int64, from position: Int64, now: UInt64, _ limits: FillLimits) -> Int64? {
        state.withLock { state in
            if state.isForsaken(at: now, limits) { state.map?.cutPart(at: start, behind: position) }
            return state.map?.endOfPart(at: start)
        }
    }

    /// The rest of a part does not come.
    func finishPart(at start: Int64, upTo position: Int64) {
        state.withLock { $0.map?.finishPart(at: start, upTo: position) }
    }

    /// What was noted is not there after all.
    func giveBack(_ range: Range<Int64>) {
        state.withLock { $0.map?.giveBack(range) }
    }

    /// What was noted is still to be proved.
    func note(_ range: Range<Int64>) {
        state.withLock { $0.map?.note(range) }
    }

    // One thread hashes at a time; whoever lands bytes takes the turn if it is free.

    /// The turn, with the bytes to hash.
    func takeHashTurn() -> Range<Int64>? {
        state.withLock { state in
            guard !state.isHashing, case .streaming = state.phase, let next = state.toHash else { return nil }
            state.isHashing = true
            return next
        }
    }

    enum Hashed: Sendable {
        case more(Range<Int64>)
        /// The turn is given back.
        case enough
        /// All of the blob is hashed; the turn is never given back.
        case whole
    }

    /// - Parameter goesOn: take what has landed meanwhile, too.
    func hashed(to offset: Int64, goesOn: Bool) -> Hashed {
        state.withLock { state in
            state.hashed = offset
            if offset == state.size { return .whole }
            if goesOn, let next = state.toHash { return .more(next) }
            state.isHashing = false
            return .enough
        }
    }
}

extension Fill.State {
    fileprivate var toHash: Range<Int64>? {
        guard let end = map?.landed.end(from: hashed), end > hashed else { return nil }
        return hashed..<end
    }
}

// MARK: - What is left

extension Fill {
    /// What a fill that ended in vain has; `nil` when a later one cannot use it: its bytes are wrong, or could not be written.
    func takeRemains() -> (content: FillContent, map: PartMap, hashed: Int64, confirmed: UInt64?)? {
        state.withLock { state in
            guard let content = state.content.take(), let map = state.map else { return nil }
            switch state.phase {
            case .paused: return (content, map, state.hashed, state.confirmed)
            case .failed(.origin): return (content, map, state.hashed, nil)
            default: return nil
            }
        }
    }

    /// Goes on with what an earlier one has left.
    func resume(_ content: FillContent, _ remains: FillRemains) {
        update { state in
            (state.size, state.content, state.map) = (content.size, content, remains.map)
            (state.hashed, state.confirmed) = (remains.hashed, remains.confirmed)
        }
    }

    /// The size is known: readers may come, and parts be fetched.
    ///
    /// - Parameter part: which is on its way.
    func open(_ content: FillContent, _ part: Range<Int64>, _ partBytes: Int64) {
        update { state in
            var map = state.map ?? PartMap(size: content.size, partBytes: partBytes)
            map.take(part)
            (state.size, state.etag, state.map, state.content) = (content.size, content.etag, map, content)
            state.phase = .streaming(content.file)
        }
    }
}
