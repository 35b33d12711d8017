//! Places for values in huge pages, which are made ready before they are needed.
//!
//! Whoever looks a key up among millions touches memory at random. With pages of 4 KiB the processor then has to find
//! out where the page lies, which takes longer than the access itself; with pages of 2 MiB it remembers them all. But
//! the first touch of such a page takes the kernel a hundred microseconds to several milliseconds, as it has to be found and
//! zeroed. So a thread of its own does that, one page ahead of need. While none is ready, and where the system
//! has none, values lie on the heap as usual.

use std::alloc::Layout;
use std::fs;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// How much memory one page is; smaller under the interpreter, where each byte costs.
const SIZE: usize = if cfg!(miri) { 1 << 14 } else { 1 << 21 };

/// From how many bytes on values go to huge pages: whoever has less is not made to pay for a page that stays empty.
const SMALL: usize = SIZE / 4;

/// A page of memory, zeroed, of which each part is handed out once.
#[derive(Debug)]
struct Page(NonNull<u8>);

// SAFETY: it is memory, owned; only its address is shared, and what lies in it says for itself what may be sent.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    const LAYOUT: Layout = match Layout::from_size_align(SIZE, SIZE) {
        Ok(layout) => layout,
        Err(_) => panic!("the size of a page is a power of two"),
    };

    /// A page that the kernel has made ready. `None` if it gives none.
    #[cfg(all(target_os = "linux", not(miri)))]
    fn new() -> Option<Self> {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

        /// The smallest page that there may be.
        const TOUCH: usize = 4_096;

        let (access, kind) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: the kernel chooses where, so no memory in use is mapped over.
        let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), 2 * SIZE, access, kind) }.ok()?;
        let before = mapped.align_offset(SIZE);
        // Of twice the size, one aligned page is kept.
        let start = mapped.wrapping_byte_add(before);
        for (rest, length) in [(mapped, before), (start.wrapping_byte_add(SIZE), SIZE - before)] {
            // SAFETY: the part was mapped above, is a whole number of pages, and nobody knows of it. If it stays, that
            // is a waste of addresses and no harm.
            let _ = (length > 0).then(|| unsafe { munmap(rest, length) });
        }
        let page = Self(NonNull::new(start.cast())?);
        // SAFETY: the range is mapped and the page's own. The advice changes nothing that a program could see.
        unsafe { madvise(start, SIZE, Advice::LinuxHugepage) }.ok()?;
        for offset in (0..SIZE).step_by(TOUCH) {
            // SAFETY: within the page, which nobody else has yet. Volatile, as it is done for the kernel to see.
            unsafe { page.0.add(offset).write_volatile(0) };
        }
        Some(page)
    }

    #[cfg(miri)]
    fn new() -> Option<Self> {
        // SAFETY: the layout's size is not zero.
        NonNull::new(unsafe { std::alloc::alloc_zeroed(Self::LAYOUT) }).map(Self)
    }

    #[cfg(not(any(target_os = "linux", miri)))]
    fn new() -> Option<Self> {
        None
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        #[cfg(all(target_os = "linux", not(miri)))]
        // SAFETY: mapped in `new` with this size, and nothing lies in it any more: what does keeps the page alive.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), Self::LAYOUT.size()) };
        #[cfg(miri)]
        // SAFETY: allocated in `new` with this layout; as above.
        unsafe {
            std::alloc::dealloc(self.0.as_ptr(), Self::LAYOUT);
        };
    }
}

/// A value in a page, or on the heap.
#[derive(Debug)]
pub(crate) struct Housed<T>(NonNull<House<T>>);

#[derive(Debug)]
struct House<T> {
    value: T,
    /// The page that this lies in; none on the heap.
    page: Option<Arc<Page>>,
}

// SAFETY: it owns its value, as a box does.
unsafe impl<T: Send> Send for Housed<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Housed<T> {}

impl<T> Housed<T> {
    fn on_heap(value: T) -> Self {
        Self(NonNull::from(Box::leak(Box::new(House { value, page: None }))))
    }
}

impl<T> Deref for Housed<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the pointer is that of a house that was built and is not yet dropped, as only `drop` does that.
        unsafe { &self.0.as_ref().value }
    }
}

impl<T> Drop for Housed<T> {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference to it any more.
        let page = unsafe { self.0.as_mut() }.page.take();
        if page.is_some() {
            // SAFETY: it was written into the page, which is alive until the end of this block, and is dropped once.
            unsafe { self.0.drop_in_place() };
        } else {
            // SAFETY: it came from a box, and is dropped once.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

/// Where values of one owner are housed.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    stock: Mutex<Stock>,
    mailbox: Arc<Mailbox>,
}

#[derive(Debug, Default)]
struct Stock {
    /// The page that is being filled, and up to which byte it is.
    current: Option<(Arc<Page>, usize)>,
    /// How many bytes went to the heap.
    on_heap: usize,
}

/// Where pages come in.
#[derive(Debug, Default)]
struct Mailbox {
    page: Mutex<Option<Page>>,
    /// Whether a page was asked for and is not taken out yet. Where there are no more, it stays so.
    awaited: AtomicBool,
}

impl Pages {
    /// Finds a place for a value. It waits for no page.
    pub(crate) fn house<T>(&self, value: T) -> Housed<T> {
        match self.place(Layout::new::<House<T>>()) {
            Some((page, offset)) => {
                // SAFETY: `place` answers with an offset that is aligned, and room enough within the page, which lies
                // at a multiple of its size.
                let place = unsafe { page.0.add(offset) }.cast::<House<T>>();
                // SAFETY: as above, and no other value was or will be given this part of the page.
                unsafe { place.write(House { value, page: Some(page) }) };
                Housed(place)
            }
            None => Housed::on_heap(value),
        }
    }

    /// A part of a page that is nobody's, from which on this layout fits.
    fn place(&self, layout: Layout) -> Option<(Arc<Page>, usize)> {
        // Another thread is here: rather the heap than to wait for it.
        let mut stock = self.stock.try_lock().ok()?;
        if let Some(place) = stock.place(layout) {
            if stock.is_half_full() {
                self.mailbox.ask();
            }
            return Some(place);
        }
        if let Some(page) = self.mailbox.take() {
            stock.current = Some((Arc::new(page), 0));
            return stock.place(layout);
        }
        stock.on_heap += layout.size();
        if stock.on_heap >= SMALL {
            self.mailbox.ask();
        }
        None
    }
}

impl Stock {
    fn place(&mut self, layout: Layout) -> Option<(Arc<Page>, usize)> {
        let (page, used) = self.current.as_mut()?;
        let start = used.checked_next_multiple_of(layout.align())?;
        let end = start.checked_add(layout.size()).filter(|end| *end <= SIZE)?;
        *used = end;
        Some((Arc::clone(page), start))
    }

    fn is_half_full(&self) -> bool {
        self.current.as_ref().is_some_and(|(_, used)| *used > SIZE / 2)
    }
}

impl Mailbox {
    /// Asks for a page, if none is on its way.
    fn ask(self: &Arc<Self>) {
        // Relaxed, here and below: what matters is under the lock.
        if !self.awaited.swap(true, Ordering::Relaxed)
            && let Some(builder) = builder()
        {
            // If too many ask at once, this one asks again later.
            if builder.try_send(Arc::downgrade(self)).is_err() {
                self.awaited.store(false, Ordering::Relaxed);
            }
        }
    }

    fn take(&self) -> Option<Page> {
        let page = self.page.try_lock().ok()?.take()?;
        self.awaited.store(false, Ordering::Relaxed);
        Some(page)
    }

    fn put(&self, page: Page) {
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = Some(page);
    }
}

/// The thread that makes pages ready, for all owners in this process. `None` where there are no huge pages.
fn builder() -> Option<&'static SyncSender<Weak<Mailbox>>> {
    /// How many may ask at once.
    const QUEUE: usize = 64;

    static BUILDER: OnceLock<Option<SyncSender<Weak<Mailbox>>>> = OnceLock::new();
    let start = || {
        if !has_huge_pages() {
            return None;
        }
        let (asks, asked) = sync_channel(QUEUE);
        thread::Builder::new().name("tollgate-pages".into()).spawn(move || build(&asked)).ok()?;
        Some(asks)
    };
    BUILDER.get_or_init(start).as_ref()
}

fn build(asked: &Receiver<Weak<Mailbox>>) {
    while let Some(mailbox) = next(asked) {
        // Whoever is gone needs none.
        if mailbox.strong_count() > 0
            && let Some(page) = Page::new()
            && let Some(mailbox) = mailbox.upgrade()
        {
            mailbox.put(page);
        }
    }
}

/// The next one who asks.
///
/// Who needs one page will soon need more, and to wake a sleeper can take a quarter of a millisecond on a virtual machine. So for a
/// while nobody is made to: the thread looks by itself.
fn next(asked: &Receiver<Weak<Mailbox>>) -> Option<Weak<Mailbox>> {
    const LOOKS: u32 = 1_000;
    const BETWEEN: Duration = Duration::from_millis(1);

    for _ in 0..LOOKS {
        match asked.try_recv() {
            Ok(mailbox) => return Some(mailbox),
            Err(TryRecvError::Empty) => thread::sleep(BETWEEN),
            Err(TryRecvError::Disconnected) => return None,
        }
    }
    asked.recv().ok()
}

/// Whether the system has huge pages for who asks.
fn has_huge_pages() -> bool {
    const KERNELS_CHOICE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    // Miri wants all threads to end with the program, and this one does not.
    !cfg!(miri)
        && fs::read_to_string(KERNELS_CHOICE)
            .is_ok_and(|choice| choice.contains("[always]") || choice.contains("[madvise]"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Larger than an eighth of a page, and says when it is dropped.
    #[repr(align(64))]
    struct Large<'a> {
        bytes: [u8; SIZE / 8],
        dropped: &'a AtomicUsize,
    }

    impl<'a> Large<'a> {
        #[allow(clippy::large_stack_arrays)]
        fn of(byte: u8, dropped: &'a AtomicUsize) -> Self {
            Self { bytes: [byte; _], dropped }
        }
    }

    impl Drop for Large<'_> {
        fn drop(&mut self) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_housed<T>(value: &Housed<T>) -> bool {
        // SAFETY: the house is alive.
        unsafe { value.0.as_ref() }.page.is_some()
    }

    #[test]
    fn values_lie_in_pages_when_there_are_any_and_on_the_heap_else() {
        let Some(page) = Page::new() else { return assert!(!has_huge_pages()) };
        let (pages, dropped) = (Pages::default(), AtomicUsize::new(0));
        // No page is asked for, so that none comes in between.
        pages.mailbox.awaited.store(true, Ordering::Relaxed);
        let first = pages.house(Large::of(1, &dropped));
        assert!(!is_housed(&first));
        pages.mailbox.put(page);
        let mut others = Vec::new();
        for number in 2..10 {
            pages.mailbox.awaited.store(true, Ordering::Relaxed);
            others.push(pages.house(Large::of(number, &dropped)));
        }
        // Seven and a little have room, and the eighth lies on the heap again.
        assert_eq!(
            others.iter().map(is_housed).collect::<Vec<_>>(),
            [true, true, true, true, true, true, true, false]
        );
        for (number, value) in (2..).zip(&others) {
            assert_eq!(std::ptr::from_ref(&**value).align_offset(64), 0);
            assert!(value.bytes.iter().all(|byte| *byte == number));
        }
        // The page lives as long as what lies in it.
        drop(pages);
        assert!(others[6].bytes.iter().all(|byte| *byte == 8));
        drop((first, others));
        assert_eq!(dropped.load(Ordering::Relaxed), 9);
    }

    #[test]
    fn pages_come_when_there_is_enough_to_fill_them() {
        let (pages, dropped) = (Pages::default(), AtomicUsize::new(0));
        let mut tries = 0;
        // The page is made by another thread.
        while has_huge_pages() && !is_housed(&pages.house(Large::of(0, &dropped))) {
            tries += 1;
            assert!(tries < 1_000_000, "no page comes");
            thread::yield_now();
        }
        assert!(tries >= SMALL / (SIZE / 8) || !has_huge_pages(), "a page was made for very little");
    }
}
