internal import CGlibc
internal import Glibc
internal import Synchronization

/// Tells what others do to a file from the moment on that it is observed: nobody can write to one without opening it.
///
/// What the process itself does to it through this ``File`` is no opening; what it writes is told as what others write is.
public protocol FileObserver: Sendable {
    /// What was done since the last call.
    func takeDeeds() -> FileDeeds
    /// Whether writes are told too, beside openings.
    func tellWrites(_ isWanted: Bool)
    /// Nobody else has it open at this moment; `nil` where that cannot be known.
    var isAlone: Bool? { get }
}

/// What was done to a file.
public struct FileDeeds: OptionSet, Sendable {
    public let rawValue: UInt32

    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let opened = FileDeeds(rawValue: 1)
    public static let written = FileDeeds(rawValue: 2)
    /// Its name, owner, mode or attributes have changed, which moves the time of its last change as well.
    public static let renamedOrTouched = FileDeeds(rawValue: 4)
}

/// The kernel's news of files (`inotify(7)`), through one descriptor for the process: a user may have few. Whoever asks for those of one file reads
/// what there is, for all.
final class Inotify: Sendable {
    /// `nil` where there is none to be had.
    static let shared = Inotify()

    fileprivate final class Ear: Sendable {
        let deeds = Atomic<UInt32>(0)
        let tellsWrites = Atomic(false)

        func hear(_ deeds: FileDeeds) { self.deeds.bitwiseOr(deeds.rawValue, ordering: .relaxed) }
    }

    private let descriptor: Int32
    /// By watch descriptor: of an inode there is one, however many observe it.
    private let ears = Mutex<[Int32: [Ear]]>([:])

    private init?() {
        descriptor = inotify_init1(Int32(forebay_INOTIFY_FLAGS))
        if descriptor < 0 { return nil }
    }

    func observe(_ file: File) -> (any FileObserver)? {
        let ear = Ear()
        let watch = ears.withLock { ears -> Int32? in
            // Watch descriptors are given out again: no news of an earlier one may be left, nor of our own opening.
            read(&ears)
            guard let watch = add(file, forebay_IN_OPEN | forebay_IN_MASK_ADD) else { return nil }
            ears[watch, default: []].append(ear)
            return watch
        }
        guard let watch else { return nil }
        let observer = Observer(inotify: self, file: file, watch: watch, ear: ear)
        if observer.isAlone == false { ear.hear(.opened) }
        return observer
    }

    private func add(_ file: File, _ mask: UInt32) -> Int32? {
        let watch = inotify_add_watch(descriptor, "/proc/self/fd/\(file.descriptor)", mask)
        return watch < 0 ? nil : watch
    }

    private func tellWrites(_ isWanted: Bool, _ observer: Observer) {
        ears.withLock { ears in
            observer.ear.tellsWrites.store(isWanted, ordering: .relaxed)
            let all = ears[observer.watch] ?? []
            let isWantedByAny = all.contains { $0.tellsWrites.load(ordering: .relaxed) }
            let mask = isWantedByAny ? forebay_IN_OPEN | forebay_IN_WRITES : forebay_IN_OPEN
            // What is not told may have happened.
            if add(observer.file, mask) != observer.watch { observer.ear.hear([.opened, .written]) }
        }
    }

    private func takeDeeds(_ ear: Ear) -> FileDeeds {
        ears.withLock { read(&$0) }
        return FileDeeds(rawValue: ear.deeds.exchange(0, ordering: .relaxed))
    }

    private func remove(_ watch: Int32, _ ear: Ear) {
        ears.withLock { ears in
            ears[watch]?.removeAll { $0 === ear }
            guard ears[watch]?.isEmpty == true else { return }
            ears[watch] = nil
            _ = inotify_rm_watch(descriptor, watch)
        }
    }

    /// Gives out all news that there are.
    private func read(_ ears: inout [Int32: [Ear]]) {
        withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { buffer in
            while true {
                let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return }
                var offset = 0
                while offset < count {
                    let event = buffer.load(fromByteOffset: offset, as: inotify_event.self)
                    offset += MemoryLayout<inotify_event>.size + Int(event.len)
                    give(event, to: &ears)
                }
                // A full read may have left some.
                if count < buffer.count - MemoryLayout<inotify_event>.size { return }
            }
        }
    }

    private func give(_ event: inotify_event, to ears: inout [Int32: [Ear]]) {
        if event.mask & forebay_IN_Q_OVERFLOW != 0 {
            for ear in ears.values.joined() { ear.hear([.opened, .written]) }
            return
        }
        var deeds: FileDeeds = []
        if event.mask & forebay_IN_OPEN != 0 { deeds.insert(.opened) }
        if event.mask & forebay_IN_MODIFY != 0 { deeds.insert(.written) }
        if event.mask & forebay_IN_RENAMED_OR_TOUCHED != 0 { deeds.insert(.renamedOrTouched) }
        // Nothing more is told.
        if event.mask & forebay_IN_IGNORED != 0 { deeds.formUnion([.opened, .written]) }
        for ear in ears[event.wd] ?? [] { ear.hear(deeds) }
    }

    private final class Observer: FileObserver {
        let inotify: Inotify
        let file: File
        let watch: Int32
        let ear: Ear

        init(inotify: Inotify, file: File, watch: Int32, ear: Ear) {
            (self.inotify, self.file, self.watch, self.ear) = (inotify, file, watch, ear)
        }

        deinit { inotify.remove(watch, ear) }

        func takeDeeds() -> FileDeeds { inotify.takeDeeds(ear) }

        func tellWrites(_ isWanted: Bool) { inotify.tellWrites(isWanted, self) }

        /// A lease for writing is given to the only opening of a file (`fcntl(2)`). Who opens the file while it is held makes the kernel send a
        /// signal, which must be one that is ignored.
        var isAlone: Bool? {
            let descriptor = file.descriptor
            guard fcntl(descriptor, Int32(forebay_F_SETSIG), SIGURG) == 0 else { return nil }
            let setLease = Int32(forebay_F_SETLEASE)
            guard fcntl(descriptor, setLease, Int32(F_WRLCK)) == 0 else { return errno == EAGAIN ? false : nil }
            _ = fcntl(descriptor, setLease, Int32(F_UNLCK))
            return true
        }
    }
}
