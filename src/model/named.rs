//! Enums whose variants have a name, as labels and JSON show it.

/// Defines an enum with one name for each variant: `ALL` lists the variants, `as_str` gives a name.
macro_rules! named {
    ($(#[$about:meta])* pub enum $Enum:ident { $($(#[$doc:meta])* $variant:ident = $name:expr,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $Enum {
            $($(#[$doc])* $variant,)+
        }

        impl $Enum {
            /// Every variant, in the order in which it is shown.
            pub const ALL: [$Enum; [$($name),+].len()] = [$($Enum::$variant),+];

            /// The name that labels and JSON show.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $($Enum::$variant => $name,)+
                }
            }
        }
    };
}

pub(crate) use named;
