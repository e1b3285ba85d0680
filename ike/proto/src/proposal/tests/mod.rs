mod negotiation;
mod text;
