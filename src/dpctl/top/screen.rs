//! What keys do: a state without a terminal.

use clap::ValueEnum;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::choice::Choice;
use super::model::View;
use crate::dpctl::cli::Order;

/// Longer filters have no use.
const MAX_FILTER: usize = 64;

/// What becomes of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    End,
}

/// The screen.
#[derive(Debug, Default)]
pub(super) struct Screen {
    pub(super) view: View,
    pub(super) choice: Choice,
    /// The first tunnel that is shown.
    pub(super) first: usize,
    /// Tunnels that fit on it, as they were drawn last.
    pub(super) page: usize,
    /// A filter is being typed.
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) help: bool,
}

impl Screen {
    pub(super) fn new(choice: Choice) -> Self {
        Self { choice, ..Self::default() }
    }

    /// The newest view, unless the operator still reads an older one.
    pub(super) fn show(&mut self, view: View) {
        if !self.paused {
            self.view = view;
        }
    }

    pub(super) fn event(&mut self, event: &Event) -> Next {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(*key),
            _ => Next::Go,
        }
    }

    fn key(&mut self, key: KeyEvent) -> Next {
        // A terminal in raw mode makes a key of what is a signal otherwise.
        let stops =
            key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd'));
        if stops {
            return Next::End;
        }
        if self.typing {
            self.type_filter(key.code);
            return Next::Go;
        }
        self.command(key.code)
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.choice.filter.clear();
            }
            KeyCode::Backspace => _ = self.choice.filter.pop(),
            KeyCode::Char(c) if self.choice.filter.len() < MAX_FILTER => self.choice.filter.push(c),
            _ => {}
        }
        self.first = 0;
    }

    fn command(&mut self, code: KeyCode) -> Next {
        let page = self.page.max(1);
        match code {
            KeyCode::Char('q') => return Next::End,
            KeyCode::Char('s') => self.choice.order = following(self.choice.order),
            KeyCode::Char('r') => self.choice.reversed = !self.choice.reversed,
            KeyCode::Char('/' | 'f') => self.typing = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Esc => self.choice.filter.clear(),
            KeyCode::Up | KeyCode::Char('k') => self.first = self.first.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.first += 1,
            KeyCode::PageUp => self.first = self.first.saturating_sub(page),
            KeyCode::PageDown => self.first += page,
            KeyCode::Home | KeyCode::Char('g') => self.first = 0,
            KeyCode::End | KeyCode::Char('G') => self.first = usize::MAX / 2,
            _ => {}
        }
        Next::Go
    }
}

fn following(order: Order) -> Order {
    let all = Order::value_variants();
    let place = all.iter().position(|known| *known == order).unwrap_or(0);
    all[(place + 1) % all.len()]
}
