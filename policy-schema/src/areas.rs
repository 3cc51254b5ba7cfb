//! One list out of several files. Each area declares its part of a list; `settings.rs` and `problem/codes.rs` make one
//! type and one table of all parts.
//!
//! A macro sees only what it is given, so a type over all areas needs all parts in one macro call. `area!` therefore
//! defines a macro of the area's name that puts its part behind those before it and hands the whole on:
//! `sign_in! { policy [] app updates }` ends in `policy! { ...sign-in... ...app... ...updates... }`.

/// Defines the macro `$area!`. `$d` is a dollar sign, which a macro cannot write into another one by itself.
macro_rules! area {
    (($d:tt) $area:ident { $($part:tt)* }) => {
        macro_rules! $area {
            ($d last:ident [$d($d before:tt)*]) => { $d last! { $d($d before)* $($part)* } };
            ($d last:ident [$d($d before:tt)*] $d next:ident $d($d others:ident)*) => {
                $d next! { $d last [$d($d before)* $($part)*] $d($d others)* }
            };
        }
    };
}

/// The number of entries in the tables of all areas.
pub(crate) const fn count<T>(tables: &[&[T]]) -> usize {
    let (mut area, mut count) = (0, 0);
    while area < tables.len() {
        count += tables[area].len();
        area += 1;
    }
    count
}

/// The tables of all areas as one. `COUNT` is their [`count`].
pub(crate) const fn concatenate<T: Copy, const COUNT: usize>(tables: &[&[T]]) -> [T; COUNT] {
    let mut all = [tables[0][0]; COUNT];
    let (mut area, mut index, mut filled) = (0, 0, 0);
    while area < tables.len() {
        if index < tables[area].len() {
            all[filled] = tables[area][index];
            index += 1;
            filled += 1;
        } else {
            area += 1;
            index = 0;
        }
    }
    assert!(filled == COUNT, "COUNT is not the number of entries");
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_their_order() {
        const TABLES: &[&[u8]] = &[&[1, 2], &[], &[3]];
        assert_eq!(concatenate::<u8, { count(TABLES) }>(TABLES), [1, 2, 3]);
    }
}
